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

D = FULL.D
OTHER_SIZES = (1_000_000, 10_000_000, 1_000_000_000)

SHAPES = {
    "onehot": ((2_048, 4), (4_096, 4), (4_096, 8)),
    "fastfood": ((1_024, 4), (2_048, 4), (2_048, 8), (4_096, 8)),
}
"""(weights of a tile, warps) of each projection's kernels."""


def measure(setup: Setup) -> Iterator[Result]:
    """At D = 125M, then at other sizes, then with other tiles."""
    for name, dims in GPU_DIMS.items():
        for d in dims:
            for op in OPERATIONS:
                yield _compared(setup, name, op, d, D, GPU_TARGETS.get((name, op, d)))
    for size in OTHER_SIZES[: setup.size(3, 1)]:
        for name in SHAPES:
            for op in OPERATIONS:
                yield _compared(setup, name, op, 1_000, size, None)
    for name, shapes in SHAPES.items():
        for tile, warps in shapes[: setup.size(len(shapes), 1)]:
            measured = partial(_with_shape, setup, name, tile, warps)
            yield check(f"{name}, tiles of {tile:,}, {warps} warps", "", measured)


def _compared(setup: Setup, name: str, op: str, d: int, size: int, aim: float | None) -> Result:
    title = f"{name} {op}, d = {d:,}, D = {size:,}"
    expected = "" if aim is None else f"at most {aim:g} copies"
    return check(title, expected, partial(_copies, setup, name, op, d, size, aim))


def _copies(
    setup: Setup, name: str, op: str, d: int, size: int, aim: float | None
) -> tuple[bool | None, Value]:
    times = _times(setup, name, (op,), *setup.size((d, size), (min(d, 64), 3_000)))
    copies = times[op] / times["copy"]
    ok = None if aim is None or setup.is_rehearsal else copies <= aim
    return ok, {"copies": copies, "ms": times[op], "copy ms": times["copy"]}


def _with_shape(setup: Setup, name: str, tile: int, warps: int) -> tuple[None, Value]:
    with shaped(name, tile, warps):
        times = _times(setup, name, OPERATIONS, *setup.size((1_000, D), (64, 3_000)))
    return None, {f"{op} copies": times[op] / times["copy"] for op in OPERATIONS}


def _times(setup: Setup, name: str, ops: tuple[str, ...], d: int, size: int) -> dict[str, float]:
    """Milliseconds of the copy and of operations."""
    theta_0, out = (weights(size, setup.device) for _ in range(2))
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
