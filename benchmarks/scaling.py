"""How the cost per weight grows with D and with d.

An entry is nanoseconds per weight of copy, apply or adjoint, timed one after another in each
repetition. A flat line over D means that the cost is linear in the number of weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from benchmarks.cases import Case, need_memory
from benchmarks.entries import Entry
from benchmarks.kernels import operations, weights
from benchmarks.timing import side_by_side, spread

PROJECTIONS = ("fastfood", "onehot")

TURN = 50_000_000
"""Weights that each operation processes per repetition, in as many calls as that takes."""


@dataclass(frozen=True)
class Sizes:
    """How large the benchmark is.

    Attributes:
        Ds: numbers of weights, measured at `d`.
        d: dimension for the sweep over `Ds`.
        dims: dimensions, measured at `D`.
        D: number of weights for the sweep over `dims`.
        repetitions: after warm-up.
        turn: see `TURN`.
    """

    Ds: tuple[int, ...]
    d: int
    dims: tuple[int, ...]
    D: int
    repetitions: int = 7
    turn: int = TURN


FULL = Sizes(
    Ds=(10**6, 10**7, 10**8, 10**9),
    d=1_000,
    dims=(10, 32, 100, 316, 1_000, 3_162, 10_000, 31_623, 100_000, 316_228, 1_000_000),
    D=2**24,
)
QUICK = Sizes(Ds=(10**4, 10**5), d=100, dims=(10, 100), D=2**16, repetitions=3, turn=1)


def cases(*, quick: bool) -> list[Case]:
    """A case for each projection and size."""
    sizes = QUICK if quick else FULL
    points = [("D", sizes.d, D) for D in sizes.Ds] + [("d", d, sizes.D) for d in sizes.dims]
    return [
        Case(f"scaling {name} {over} d={d} D={D}", partial(_measure, sizes, name, over, d, D))
        for name in PROJECTIONS
        for over, d, D in points
    ]


def _measure(sizes: Sizes, name: str, over: str, d: int, D: int) -> list[Entry]:
    need_memory(2 * 4 * D)
    theta_0, out = weights(D), weights(D)
    work = {"copy": lambda: out.copy_(theta_0), **operations(name, d, theta_0, out)}
    times = side_by_side(work, sizes.repetitions, calls=max(1, sizes.turn // D))
    return [
        Entry.of(
            f"{op} beside {name}, over {over}, d = {d:,}, D = {D:,}"
            if op == "copy"
            else f"{name} {op}, over {over}, d = {d:,}, D = {D:,}",
            spread([1e9 * seconds / D for seconds in times[op]]),
            "ns per weight",
            kind="scaling",
            over=over,
            projection=name,
            operation=op,
            d=d,
            D=D,
        )
        for op in times
    ]
