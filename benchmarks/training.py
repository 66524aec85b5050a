"""Time and memory of training: d90 against full fine-tuning and PEFT's adapters.

**Time.** Every method has its own copy of the model, the same batch and the same loss, in float32,
with the dropout of the model's configuration. In each repetition the methods take turns, each with
a few optimizer steps in a row. An entry is the median time of a step, or the median of the
repetitions' ratios to full fine-tuning with `torch.optim.AdamW` and its default arguments.
PyTorch's fused AdamW, which is faster and not the default, is measured as well.

**Memory.** A fresh process trains with the method for three steps and frees everything, so that
libraries are loaded and have their workspaces. What is resident then, after free memory has been
returned to the system, is the zero. The process loads the model again and trains it for three
steps; the value is the peak of resident memory during these steps minus the zero: weights,
gradients, optimizer state, activations, and what the allocator wastes. *Weights-like* memory is
that of a batch of one example of 8 tokens, whose activations are well under 1 MB for these models,
so that what is left is of the size of the weights. Nothing is subtracted.
"""

from __future__ import annotations

import gc
from functools import partial
from typing import Any

from benchmarks import fresh
from benchmarks.cases import Case, Skip
from benchmarks.entries import Entry
from benchmarks.methods import FULL, METHODS, QUICK, WORKLOADS, Trainer, Workload
from benchmarks.resident import MB, peak_of, settle
from benchmarks.timing import ratio, side_by_side, spread
from d90.subspace import Subspace

SMALL_BATCH = (1, 8)
SLACK = 32 * MB
"""What the target allows beyond theta_0, theta and the gradient of the largest layer."""

STEPS = 3
WEIGHTS_LIKE, PEAK = "weights-like memory", "peak memory"
QUICK_NAME = "tiny BERT"


def cases(*, quick: bool) -> list[Case]:
    """A case for the times of each model, and for the memory of each method on each model."""
    workloads = {QUICK_NAME: QUICK} if quick else WORKLOADS
    times = [Case(f"training {name}", partial(_times, name, s)) for name, s in workloads.items()]
    memory = [
        Case(f"training, {kind}, {name}, {method}", partial(_memory, kind, name, workload, method))
        for name, workload in workloads.items()
        for method in METHODS
        for kind in (WEIGHTS_LIKE, PEAK)
    ]
    return times + (memory[:1] if quick else memory)


def _times(name: str, workload: Workload) -> list[Entry]:
    steps = {}
    for method_name, method in METHODS.items():
        try:
            steps[method_name] = Trainer(method, workload.load(), workload.shape).step
        except Skip:  # Reported by the memory case of the method.
            continue
    # A model with a subspace refers to itself: free those of earlier cases.
    gc.collect()
    times = side_by_side(steps, workload.repetitions, calls=workload.calls, warmup=2)
    shape = "{} x {} tokens".format(*workload.shape)
    entries = []
    for method_name, seconds in times.items():
        about: dict[str, Any] = {"model": name, "method": method_name}
        milliseconds = spread([1e3 * s for s in seconds])
        title = f"{name}, {shape}, {method_name}: step"
        entries.append(Entry.of(title, milliseconds, "ms", kind="step", **about))
        if method_name == FULL:
            continue
        step_ratio = ratio(seconds, times[FULL])
        target = workload.at_most if METHODS[method_name].subspace else None
        title = f"{title} against full AdamW"
        about["kind"] = "step ratio"
        entries.append(Entry.of(title, step_ratio, "full AdamW steps", at_most=target, **about))
    return entries


def _memory(kind: str, name: str, workload: Workload, method_name: str) -> list[Entry]:
    shape = SMALL_BATCH if kind == WEIGHTS_LIKE else workload.shape
    memory = fresh.call(training_bytes, name=name, method_name=method_name, shape=shape)
    is_target = kind == WEIGHTS_LIKE and METHODS[method_name].subspace
    target = memory["allowed"] if is_target else None
    return [
        Entry(
            "{}, {} x {} tokens, {}: {}".format(name, *shape, method_name, kind),
            memory["bytes"] / MB,
            "MB",
            at_most=None if target is None else target / MB,
            about={"kind": kind, "model": name, "method": method_name},
        )
    ]


def training_bytes(name: str, method_name: str, shape: tuple[int, int]) -> dict[str, int | None]:
    """Peak memory of training in this process, without the libraries, and the target, in bytes."""
    workload = WORKLOADS.get(name, QUICK)
    _train(_trainer(workload, method_name, shape))
    before = settle()
    trainer = _trainer(workload, method_name, shape)
    settle()  # What loading left behind, such as a tokenizer, is no part of training.
    peak = peak_of(partial(_train, trainer))
    return {"bytes": peak - before, "allowed": _allowed(trainer)}


def _trainer(workload: Workload, method_name: str, shape: tuple[int, int]) -> Trainer:
    return Trainer(METHODS[method_name], workload.load(), shape)


def _train(trainer: Trainer) -> None:
    for _ in range(STEPS):
        trainer.step()


def _allowed(trainer: Trainer) -> int | None:
    subspace = getattr(trainer.model, "subspace", None)
    if not isinstance(subspace, Subspace):
        return None
    layout = subspace.layout
    largest = max(group.size for group in layout.groups)
    return 4 * (2 * layout.D + largest) + SLACK
