"""Part 12: a step and the peak memory of d90 and of what it is compared to."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch

from benchmarks.gpu.part import Result, Setup
from benchmarks.gpu.workloads import MINILM, ROBERTA_BASE, TINY, Shape, training
from benchmarks.methods import FULL, METHODS, Trainer
from benchmarks.resident import MB
from benchmarks.timing import ratio, side_by_side, spread

AT_MOST = 1.1
"""Aim of a step in a subspace of the RoBERTa-base shape, in full AdamW steps."""

WARMUP = 3
"""Steps of each method before any is timed; their peak is what is reported."""

PRECISIONS = ("bf16", "float32")


@dataclass(frozen=True)
class Workload:
    """What is trained.

    Attributes:
        name: for readers.
        shape: of the model and its batches.
        at_most: aim of a step in a subspace; None for no aim.
    """

    name: str
    shape: Shape
    at_most: float | None = None

    def title(self, precision: str) -> str:
        """The model, its batch and the precision."""
        return "{}, {} x {} tokens, {}".format(self.name, *self.shape.batch, precision)

    def aim(self, method: str) -> float | None:
        """The largest cost of a step with a method, in full AdamW steps."""
        return self.at_most if METHODS[method].subspace else None


WORKLOADS = (
    Workload("RoBERTa-base shape", ROBERTA_BASE, AT_MOST),
    Workload("MiniLM shape", MINILM),
)
REHEARSAL = (Workload("tiny BERT", TINY, AT_MOST),)


@dataclass(frozen=True)
class Comparison:
    """What training with each method takes.

    Attributes:
        seconds: of a step, in each repetition.
        peak: bytes of the GPU at the peak of the first steps, with the model; 0 on a CPU.
        missing: why other methods were not compared.
    """

    seconds: Mapping[str, list[float]]
    peak: Mapping[str, int]
    missing: Mapping[str, Exception]


def compare(
    shape: Shape, precision: str, device: str, *, repetitions: int = 9, calls: int = 3
) -> Comparison:
    """Train with every method of `METHODS`, all side by side, in bf16 (autocast) or float32."""
    trainers: dict[str, Trainer] = {}
    peak: dict[str, int] = {}
    missing: dict[str, Exception] = {}
    for name in METHODS:
        try:
            trainers[name], peak[name] = _trainer(shape, name, precision, device)
        except Exception as error:  # The other methods can still be compared.
            missing[name] = error
    steps = {name: trainer.step for name, trainer in trainers.items()}
    return Comparison(side_by_side(steps, repetitions, calls=calls), peak, missing)


def _trainer(shape: Shape, name: str, precision: str, device: str) -> tuple[Trainer, int]:
    """A warm trainer, and the bytes at the peak of its first steps, its model included."""
    gc.collect()  # A model with a subspace refers to itself.
    before = _allocated(device)
    model = shape.model(device)
    trainer = Trainer(METHODS[name], model, shape.batch, autocast=precision == "bf16")
    for _ in range(WARMUP):
        trainer.step()
    return trainer, (torch.cuda.max_memory_allocated() if device == "cuda" else 0) - before


def _allocated(device: str) -> int:
    """Bytes that are allocated on the GPU now, from where the peak is counted."""
    if device != "cuda":
        return 0
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()


def measure(setup: Setup) -> Iterator[Result]:
    """Each model in each precision."""
    with training():
        for workload in setup.size(WORKLOADS, REHEARSAL):
            for precision in PRECISIONS:
                yield from _results(setup, workload, precision)


def _results(setup: Setup, workload: Workload, precision: str) -> Iterator[Result]:
    title = workload.title(precision)
    repetitions, calls = setup.size((9, 3), (2, 1))
    found = compare(workload.shape, precision, setup.device, repetitions=repetitions, calls=calls)
    for name, error in found.missing.items():
        # What d90 is compared to may be missing or broken on this machine.
        is_own = METHODS[name].subspace or name == FULL
        yield Result(f"{title}: {name}", str(error), False if is_own else None)
    for name, seconds in found.seconds.items():
        relative = ratio(seconds, found.seconds[FULL]).value
        figures = {
            "ms": 1e3 * spread(seconds).value,
            "full AdamW steps": relative,
            "peak MB": found.peak[name] / MB,
        }
        aim = workload.aim(name)
        ok = None if aim is None or setup.is_rehearsal else relative <= aim
        expected = "" if aim is None else f"at most {aim:g} full AdamW steps"
        yield Result(f"{title}: {name}", figures, ok, expected)
