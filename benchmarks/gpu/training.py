"""Part 12: a step and the peak memory of d90 and of what it is compared to."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from benchmarks.cases import Skip
from benchmarks.gpu.part import Result, Setup
from benchmarks.gpu.workloads import MINILM, ROBERTA_BASE, TINY, Shape, training
from benchmarks.methods import FULL, METHODS, Trainer
from benchmarks.resident import MB
from benchmarks.timing import ratio, side_by_side, spread

AT_MOST = 1.1
"""Aim of a step in a subspace of the RoBERTa-base shape, in full AdamW steps."""

WARMUP = 3
"""Steps of each method before any is timed; their peak is what is reported."""


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


WORKLOADS = (
    Workload("RoBERTa-base", ROBERTA_BASE, AT_MOST),
    Workload("MiniLM", MINILM),
)
REHEARSAL = (Workload("tiny BERT", TINY),)


def measure(setup: Setup) -> Iterator[Result]:
    """Each method on each model, in bf16 (autocast) and in float32, all of a model side by side."""
    with training():
        for workload in setup.size(WORKLOADS, REHEARSAL):
            for precision in ("bf16", "float32"):
                yield from _compare(setup, workload, precision)


def _compare(setup: Setup, workload: Workload, precision: str) -> Iterator[Result]:
    title = "{}, {} x {} tokens, {}".format(workload.name, *workload.shape.batch, precision)
    trainers: dict[str, Trainer] = {}
    peaks: dict[str, float] = {}
    for name in METHODS:
        try:
            trainers[name], peaks[name] = _trainer(setup, workload.shape, name, precision)
        except Skip as reason:
            yield Result(f"{title}: {name}", str(reason))
        except Exception as error:  # The other methods can still be compared.
            yield Result(f"{title}: {name}", f"{type(error).__name__}: {error}", False)
    steps = {name: trainer.step for name, trainer in trainers.items()}
    times = side_by_side(steps, setup.size(9, 2), calls=setup.size(3, 1), warmup=setup.size(1, 0))
    for name, seconds in times.items():
        relative = ratio(seconds, times[FULL]).value
        figures = {
            "ms": 1e3 * spread(seconds).value,
            "full AdamW steps": relative,
            "peak MB": peaks[name] / MB,
        }
        aim = workload.at_most if METHODS[name].subspace else None
        ok = None if aim is None or setup.is_rehearsal else relative <= aim
        expected = "" if aim is None else f"at most {aim:g} full AdamW steps"
        yield Result(f"{title}: {name}", figures, ok, expected)


def _trainer(setup: Setup, shape: Shape, name: str, precision: str) -> tuple[Trainer, float]:
    """A warm trainer, and the bytes at the peak of its first steps, its model included."""
    gc.collect()  # A model with a subspace refers to itself.
    before = _allocated(setup)
    model = shape.model(setup.device)
    trainer = Trainer(METHODS[name], model, shape.batch, autocast=precision == "bf16")
    for _ in range(setup.size(WARMUP, 1)):
        trainer.step()
    peak = 0 if setup.is_rehearsal else torch.cuda.max_memory_allocated()
    return trainer, peak - before


def _allocated(setup: Setup) -> int:
    """Bytes that are allocated on the GPU now, from where the peak is counted."""
    if setup.is_rehearsal:
        return 0
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()
