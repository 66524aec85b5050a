"""Part 1: compile the kernels in many processes at once; what follows finds them in the cache.

The processes launch the kernels, on tensors of a few thousand numbers: what they compile is then
what a launch looks for, whatever Triton makes the keys of its cache from.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from triton import knobs

from benchmarks.gpu.part import Result, Setup, Value, check
from d90.projections import make_projection

Case = tuple[str, int, str, int]
"""Projection, d, dtype, number of tensors: of models, a table of up to 256."""

_PROCESSES = 16
_SECONDS = 100.0


def compile_kernels(setup: Setup) -> Iterator[Result]:
    """All blocks in float32, some in 16 bits; then whether the cache serves this process."""
    chosen = cases(setup)
    before = _entries()
    yield check(
        "in processes of their own", "all compile", lambda: _in_processes(setup, chosen, before)
    )
    yield check(
        "once more in this process", "no compilation", lambda: _again(setup, chosen, _entries())
    )


def cases(setup: Setup) -> list[Case]:
    """The longest blocks first: they take the longest."""
    long, bits = setup.size((2**20, 20_000), ()), setup.size(range(14, -1, -1), (4,))
    single = [("fastfood", d, "float32", 1) for d in (*long, *(1 << b for b in bits))]
    half = [
        ("fastfood", d, dtype, 1)
        for d in setup.size((16_384, 3_000, 1_000, 130, 16, 3, 1), ())
        for dtype in ("bfloat16", "float16")
    ]
    dtypes = setup.size(("float32", "bfloat16", "float16"), ("float32",))
    onehot = [("onehot", 1_000, dtype, 1) for dtype in dtypes]
    whole = [
        (name, 1_000, "float32", tensors)
        for name in ("fastfood", "onehot")
        for tensors in setup.size((50, 100, 200), ())
    ]
    return sorted([*single, *half, *onehot, *whole], key=lambda case: -case[1])


def launch(device: str, chosen: Sequence[Case]) -> None:
    """Launch the kernels of each case once; whole tiles and pieces are the same kernel."""
    for name, d, dtype, tensors in chosen:
        P = make_projection(name, d=d, D=max(d, 10_000))
        values = torch.zeros(tensors, 50, dtype=getattr(torch, dtype), device=device)
        rows = [50 * i for i in range(tensors)], [1.0] * tensors
        P.add_projected(torch.ones(d, device=device), list(values), *rows)
        P.pull_back(list(values), *rows)
    if device == "cuda":
        torch.cuda.synchronize()


def _in_processes(setup: Setup, chosen: list[Case], before: int) -> tuple[bool, Value]:
    """Deal the cases out to processes, and wait for them."""
    count = setup.size(min(_PROCESSES, os.cpu_count() or 1), 1)
    began = time.monotonic()
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", __name__, setup.device, json.dumps(chosen[i::count])]
        )
        for i in range(count)
    ]
    try:
        codes = [p.wait(max(1.0, began + _SECONDS - time.monotonic())) for p in processes]
    finally:
        for process in processes:
            process.kill()  # Does nothing to one that has ended.
    figures = {
        "processes": count,
        "failed": sum(map(bool, codes)),
        "cases": len(chosen),
        "entries": _entries() - before,
        "seconds": time.monotonic() - began,
    }
    return not any(codes), figures


def _again(setup: Setup, chosen: list[Case], before: int) -> tuple[bool | None, Value]:
    began = time.monotonic()
    launch(setup.device, chosen)
    added = _entries() - before
    figures = {"cases": len(chosen), "new entries": added, "seconds": time.monotonic() - began}
    return (None if setup.is_rehearsal else added == 0), figures


def _entries() -> int:
    """How many kernels are in Triton's cache."""
    return sum(1 for _ in Path(knobs.cache.dir).glob("*/*.cubin"))


if __name__ == "__main__":
    launch(sys.argv[1], json.loads(sys.argv[2]))
