"""Kernels and training steps on the GPU, where there is one.

As in `kernels` and `training`: side by side in one process, which waits for the GPU before it reads
the clock. Models have random weights, and peak memory is that of torch's allocator.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from benchmarks.cases import Case
from benchmarks.entries import Entry
from benchmarks.gpu.training import PRECISIONS, REHEARSAL, WORKLOADS, Workload, compare
from benchmarks.kernels import (
    FULL,
    GPU_DIMS,
    GPU_TARGETS,
    OPERATIONS,
    QUICK,
    Sizes,
    operations,
    weights,
)
from benchmarks.methods import FULL as BASELINE
from benchmarks.resident import MB
from benchmarks.timing import ratio, side_by_side, spread

CALLS = 10
"""Calls of an operation in a repetition: one takes less than a millisecond."""

KERNEL, STEP, RATIO, PEAK = "GPU kernel", "GPU step", "GPU step ratio", "GPU peak memory"


def cases(*, quick: bool) -> list[Case]:
    """A case for each projection and d, and for each model and precision; none without a GPU."""
    return cases_on("cuda", quick=quick) if torch.cuda.is_available() else []


def cases_on(device: str, *, quick: bool) -> list[Case]:
    """The cases; on a CPU, to see that they run."""
    sizes = QUICK if quick else FULL
    kernels = [
        Case(f"gpu kernels {name} d={d}", partial(_kernels, device, sizes, name, d))
        for name, dims in GPU_DIMS.items()
        for d in dims
        if not quick or d <= 1_000
    ]
    training = [
        Case(f"gpu training {w.title(precision)}", partial(_training, device, sizes, w, precision))
        for w in (REHEARSAL if quick else WORKLOADS)
        for precision in PRECISIONS
    ]
    return kernels + training


def _kernels(device: str, sizes: Sizes, name: str, d: int) -> list[Entry]:
    D = sizes.D
    theta_0, out = weights(D, device), weights(D, device)
    work = {"copy": lambda: out.copy_(theta_0), **operations(name, d, theta_0, out)}
    times = side_by_side(work, sizes.repetitions, calls=CALLS if device == "cuda" else 1)
    return [
        Entry.of(
            f"GPU, {name} {op}, d = {d:,}, D = {D:,}",
            ratio(times[op], times["copy"]),
            "copies",
            at_most=GPU_TARGETS.get((name, op, d)),
            kind=KERNEL,
            projection=name,
            operation=op,
            d=d,
            D=D,
            sample=D,
            seconds=spread(times[op]).value,
        )
        for op in OPERATIONS
    ]


def _training(device: str, sizes: Sizes, workload: Workload, precision: str) -> list[Entry]:
    found = compare(workload.shape, precision, device, repetitions=sizes.repetitions)
    model = workload.title(precision)
    entries = []
    for name, seconds in found.seconds.items():
        title = f"GPU, {model}, {name}"
        about: dict[str, Any] = {"model": model, "method": name}
        milliseconds = spread([1e3 * s for s in seconds])
        entries.append(Entry.of(f"{title}: step", milliseconds, "ms", kind=STEP, **about))
        peak = found.peak[name] / MB
        entries.append(Entry(f"{title}: peak memory", peak, "MB", about={"kind": PEAK, **about}))
        if name != BASELINE:
            steps, aim = ratio(seconds, found.seconds[BASELINE]), workload.aim(name)
            title += ": step against full AdamW"
            entries.append(
                Entry.of(title, steps, "full AdamW steps", at_most=aim, kind=RATIO, **about)
            )
    return entries
