"""Part 10: what an optimizer step of d90's own loop makes the host and the GPU do."""

from __future__ import annotations

import json
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

import d90
from benchmarks.gpu.part import Result, Setup, Value, check
from benchmarks.gpu.workloads import MINILM, TINY, Shape, random_data, training
from benchmarks.methods import PARAMETERS
from benchmarks.timing import side_by_side, spread
from d90.subspace import attach
from d90.training import TrainConfig
from d90.training.trainer import Trainer

METHODS: dict[str, dict[str, Any] | None] = {
    "full AdamW": None,
    "DID fastfood": {"method": "did", "projection": "fastfood"},
    "SAID fastfood": {"method": "said", "projection": "fastfood"},
    "DID onehot": {"method": "did", "projection": "onehot"},
}
"""Arguments of `attach`; None for full fine-tuning."""

SHORT = 8
"""Tokens of one example, with which the GPU waits for the host."""

STEPS = 4
"""Steps that syncs and launches are counted in."""

_SYNC = "called a synchronizing"
_LIBRARY = str(Path(d90.__file__).parent)


def count(setup: Setup) -> Iterator[Result]:
    """Synchronizations by line, time and launches of a step, in bf16."""
    shape = setup.size(MINILM, TINY)
    with training():
        for name, method in METHODS.items():
            train = partial(_trainer, setup, shape, method)
            yield check(f"{name}: syncs a step", "at most 1", partial(_syncs, setup, train))
            yield check(f"{name}: ms a step", "", partial(_milliseconds, setup, train))
            yield check(f"{name}: work of a step", "", partial(_work, setup, train))


def _trainer(
    setup: Setup, shape: Shape, method: Mapping[str, Any] | None, *, short: bool = False
) -> Trainer:
    """A run that is past its first steps, which allocate and compile."""
    examples, length = (1, setup.size(SHORT, 4)) if short else shape.batch
    model = shape.model(setup.device)
    optimizer = "adamw"
    if method is not None:
        attach(model, d=setup.size(PARAMETERS, 64), **method)
        optimizer = "adam"
    config = TrainConfig(
        max_steps=10_000, batch_size=examples, optimizer=optimizer, precision="bf16"
    )
    data = random_data(shape, 16 * examples, length)
    run = Trainer(model, data, config, learning_rate=1e-6)
    for _ in range(setup.size(3, 1)):
        run.optimizer_step()
    return run


def _syncs(setup: Setup, train: Callable[..., Trainer]) -> tuple[bool | None, Value]:
    run = train()

    def work() -> None:
        for _ in range(setup.size(STEPS, 1)):
            run.optimizer_step()

    lines = Counter[str]() if setup.is_rehearsal else sync_lines(work)
    found = {line: number / STEPS for line, number in lines.most_common()}
    total = sum(found.values())
    return None if setup.is_rehearsal else total <= 1, {"in all": total, **found}


def sync_lines(work: Callable[[], object]) -> Counter[str]:
    """How often each line made the host wait for the GPU.

    A line is the innermost one of d90, or of whatever called CUDA if none of d90 did, such as the
    thread of the backward pass.
    """
    lines = Counter[str]()

    def note(message: Any, category: Any, file: str, number: int, *_: Any) -> None:
        if _SYNC in str(message):
            lines[_own_line(sys._getframe()) or f"{Path(file).name}:{number}"] += 1

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = note
        torch.cuda.set_sync_debug_mode("warn")
        try:
            work()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return lines


def _own_line(frame: FrameType | None) -> str:
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(_LIBRARY):
            return f"{Path(file).relative_to(_LIBRARY)}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


def _milliseconds(setup: Setup, train: Callable[..., Trainer]) -> tuple[None, Value]:
    """A step, and one of a short example, which takes as long as the host needs for it."""
    work = {"step": train().optimizer_step, "host": train(short=True).optimizer_step}
    times = side_by_side(work, setup.size(9, 2), calls=setup.size(5, 1))
    return None, {name: 1e3 * spread(seconds).value for name, seconds in times.items()}


def _work(setup: Setup, train: Callable[..., Trainer]) -> tuple[None, Value]:
    """Kernels and copies that the GPU runs in a step, and how long it is busy with them."""
    run, steps = train(), setup.size(STEPS, 1)
    with _traced() as events:
        for _ in range(steps):
            run.optimizer_step()
        setup.synchronize()
    kernels = [event["dur"] for event in events if event.get("cat") == "kernel"]
    copies = [event for event in events if str(event.get("cat")).startswith("gpu_mem")]
    return None, {
        "kernels": len(kernels) / steps,
        "copies": len(copies) / steps,
        "busy ms": sum(kernels) / 1e3 / steps,
    }


@contextmanager
def _traced() -> Iterator[list[dict[str, Any]]]:
    """The events of a trace, once the block has ended."""
    events: list[dict[str, Any]] = []
    activities = [ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as profiler:
        yield events
    with TemporaryDirectory() as folder:
        file = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(file))
        events += json.loads(file.read_text(encoding="utf-8"))["traceEvents"]
