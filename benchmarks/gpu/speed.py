"""Part 11: the kernels against the copy of as many floats, in one process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, cast
from unittest.mock import patch

from benchmarks.gpu.part import Result, Setup, Value, check
from benchmarks.kernels import FULL, GPU_DIMS, GPU_TARGETS, OPERATIONS, operations, weights
from benchmarks.timing import Work, side_by_side, spread

SIZES = (
    *((name, d, FULL.D) for name, dims in GPU_DIMS.items() for d in dims),
    *((name, 1_000, D) for D in (10**6, 10**7, 10**9) for name in GPU_DIMS),
)
"""(projection, d, D) that are measured."""

TINY = (("onehot", 16, 3_000), ("fastfood", 64, 3_000))

SHAPES = (
    *(("onehot", 1_000, FULL.D, tile, warps) for tile, warps in ((2_048, 4), (4_096, 8))),
    *(("fastfood", 1_000, FULL.D, *shape) for shape in ((1_024, 4), (2_048, 8), (4_096, 8))),
)
"""(projection, d, D, weights of a tile, warps) other than the kernels' own."""

TINY_SHAPES = (("onehot", 16, 3_000, 2_048, 4), ("fastfood", 64, 3_000, 1_024, 4))


def measure(setup: Setup) -> Iterator[Result]:
    """At D = 125M, then at other sizes, then with other tiles."""
    for name, d, D in setup.size(SIZES, TINY):
        for op in OPERATIONS:
            aim = GPU_TARGETS.get((name, op, d)) if D == FULL.D else None
            expected = "" if aim is None else f"at most {aim:g} copies"
            measured = partial(_copies, setup, name, op, d, D, aim)
            yield check(f"{name} {op}, d = {d:,}, D = {D:,}", expected, measured)
    for name, d, D, tile, warps in setup.size(SHAPES, TINY_SHAPES):
        title = f"{name}, d = {d:,}, D = {D:,}, tiles of {tile:,}, {warps} warps"
        yield check(title, "", partial(_with_shape, setup, name, d, D, tile, warps))


def _copies(
    setup: Setup, name: str, op: str, d: int, D: int, aim: float | None
) -> tuple[bool | None, Value]:
    times = _times(setup, name, (op,), d, D)
    copies = times[op] / times["copy"]
    ok = None if aim is None else copies <= aim
    return ok, {"copies": copies, "ms": times[op], "copy ms": times["copy"]}


def _with_shape(
    setup: Setup, name: str, d: int, D: int, tile: int, warps: int
) -> tuple[None, Value]:
    with shaped(name, tile, warps):
        times = _times(setup, name, OPERATIONS, d, D)
    return None, {f"{op} copies": times[op] / times["copy"] for op in OPERATIONS}


def _times(setup: Setup, name: str, ops: tuple[str, ...], d: int, D: int) -> dict[str, float]:
    """Milliseconds of the copy and of operations."""
    theta_0, out = (weights(D, setup.device) for _ in range(2))
    named = operations(name, d, theta_0, out)
    work = {"copy": lambda: out.copy_(theta_0), **{op: named[op] for op in ops}}
    return {key: milliseconds(setup, call) for key, call in work.items()}


def milliseconds(setup: Setup, work: Work) -> float:
    """The median time on the GPU, whose cache is emptied before each call."""
    if setup.is_rehearsal:
        return 1e3 * spread(side_by_side({"": work}, 2, warmup=0)[""]).value
    from triton.testing import do_bench

    return cast(float, do_bench(work, warmup=10, rep=60, return_mode="median"))


@contextmanager
def shaped(name: str, tile: int, warps: int) -> Iterator[None]:
    """Kernels of a projection inside run with other tiles and numbers of warps than their own."""
    from triton.runtime.jit import JITFunction

    from d90.projections.kernels.triton import fastfood, onehot

    run = JITFunction.run

    def run_shaped(self: Any, *args: Any, **options: Any) -> Any:
        return run(self, *args, **{**options, "num_warps": warps})

    with ExitStack() as patches:
        module = {"fastfood": fastfood, "onehot": onehot}[name]
        patches.enter_context(patch.object(module, "_TILE", tile))
        patches.enter_context(patch.object(JITFunction, "run", run_shaped))
        yield
