"""A training step of d90 against full fine-tuning and against PEFT's adapters; and their memory.

**Time.** Every contestant has its own copy of the model, the same batch and the same loss, in
float32, with the dropout of the model's own configuration. In each repetition each one makes a few
steps in a row, one contestant after another; an entry is the median time of a step, or the median
of the repetitions' ratios to full fine-tuning with `torch.optim.AdamW` as it comes. PyTorch's fused
AdamW is there too: it is faster, and not the default.

**Memory.** A fresh process trains the contestant once, for three steps, and lets everything go:
now libraries are loaded and have their workspaces. What is resident then, after free memory has
been given back to the system, is the zero. It loads the model again, and trains it for three
steps; the value is the most that was resident during the steps, minus the zero, as the kernel
counts it: weights, gradients, the optimizer's state, activations, and whatever the allocator
wastes. *Weights-like* memory is that of a batch of one text of 8 tokens, whose activations are well
under 1 MB for these models: what is left is as long as the weights. Nothing is subtracted.
"""

from __future__ import annotations

import gc
from functools import partial
from typing import Any

from benchmarks import fresh
from benchmarks.cases import Case, Skip
from benchmarks.contestants import CONTESTANTS, FULL, QUICK, SETTINGS, Setting, Trainer
from benchmarks.entries import Entry
from benchmarks.resident import MB, peak_of, settle
from benchmarks.timing import ratio, side_by_side, spread
from d90.subspace import Subspace

SMALL_BATCH = (1, 8)
SLACK = 32 * MB
"""What the bar allows beyond theta_0, theta and the largest layer's gradient."""

STEPS = 3
WEIGHTS_LIKE, PEAK = "weights-like memory", "peak memory"
QUICK_NAME = "tiny BERT"


def cases(*, quick: bool) -> list[Case]:
    """A case for the times of each model, and for the memory of each contestant on it."""
    settings = {QUICK_NAME: QUICK} if quick else SETTINGS
    times = [Case(f"training {name}", partial(_times, name, s)) for name, s in settings.items()]
    memory = [
        Case(f"training, {kind}, {name}, {who}", partial(_memory, kind, name, setting, who))
        for name, setting in settings.items()
        for who in CONTESTANTS
        for kind in (WEIGHTS_LIKE, PEAK)
    ]
    return times + (memory[:1] if quick else memory)


def _times(name: str, setting: Setting) -> list[Entry]:
    steps = {}
    for who, contestant in CONTESTANTS.items():
        try:
            steps[who] = Trainer(contestant, setting.load(), setting.shape).step
        except Skip:  # Named in the run's list by the contestant's case of memory.
            continue
    # Of the models before: what holds a subspace refers to itself.
    gc.collect()
    times = side_by_side(steps, setting.repetitions, calls=setting.calls, warmup=2)
    shape = "{} x {} tokens".format(*setting.shape)
    entries = []
    for who, seconds in times.items():
        about: dict[str, Any] = {"model": name, "contestant": who}
        found = spread([1e3 * s for s in seconds])
        entries.append(Entry.of(f"{name}, {shape}, {who}: step", found, "ms", kind="step", **about))
        if who == FULL:
            continue
        found = ratio(seconds, times[FULL])
        bar = setting.at_most if CONTESTANTS[who].subspace else None
        title = f"{name}, {shape}, {who}: step against full AdamW"
        about["kind"] = "step ratio"
        entries.append(Entry.of(title, found, "full AdamW steps", at_most=bar, **about))
    return entries


def _memory(kind: str, name: str, setting: Setting, who: str) -> list[Entry]:
    shape = SMALL_BATCH if kind == WEIGHTS_LIKE else setting.shape
    found = fresh.call(training_bytes, name=name, who=who, shape=shape)
    bar = found["allowed"] if kind == WEIGHTS_LIKE else None
    return [
        Entry(
            "{}, {} x {} tokens, {}: {}".format(name, *shape, who, kind),
            found["bytes"] / MB,
            "MB",
            at_most=None if bar is None else bar / MB,
            about={"kind": kind, "model": name, "contestant": who},
        )
    ]


def training_bytes(name: str, who: str, shape: tuple[int, int]) -> dict[str, int | None]:
    """Of this process: the peak of training beyond the libraries, and what the bar allows."""
    setting = SETTINGS.get(name, QUICK)
    _train(_trainer(setting, who, shape))
    before = settle()
    trainer = _trainer(setting, who, shape)
    settle()  # What loading left behind, such as a tokenizer, is not of training.
    peak = peak_of(partial(_train, trainer))
    return {"bytes": peak - before, "allowed": _allowed(trainer)}


def _trainer(setting: Setting, who: str, shape: tuple[int, int]) -> Trainer:
    return Trainer(CONTESTANTS[who], setting.load(), shape)


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
