"""Apply and adjoint against copying the weights: `torch.Tensor.copy_` of D floats.

`apply` is `Projection.add_projected` of z and theta_0 into a buffer, `adjoint` is
`Projection.pull_back` of a gradient. Each repetition times the copy, apply and adjoint one after
another; an entry is the median of the repetitions' ratios.

What would take minutes at D weights is measured at fewer and extrapolated, and its name says so:
dense, where every weight costs the same, and the full-length Fastfood, for which the factor leaves
out that D weights need a few more of its log2(n) passes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from benchmarks.cases import Case, need_memory
from benchmarks.entries import Entry
from benchmarks.full_length import FullLengthFastfood
from benchmarks.timing import Work, ratio, side_by_side, spread
from d90.projections import make_projection

OPERATIONS = ("apply", "adjoint")
FULL_LENGTH = "full-length torch fastfood"

TARGETS: dict[tuple[str, str, int], float] = {
    **{("fastfood", op, d): 2.5 for op in OPERATIONS for d in (200, 1_000, 10_000)},
    **{("fastfood", op, 1_000_000): 4.0 for op in OPERATIONS},
    **{("onehot", "apply", d): 1.5 for d in (200, 1_000, 10_000)},
    **{("onehot", "adjoint", d): 2.5 for d in (200, 1_000, 10_000)},
}
"""Largest cost of (projection, operation, d) at D = 125M, in copies."""

GPU_TARGETS: dict[tuple[str, str, int], float] = {
    ("onehot", "apply", 1_000): 1.35,
    ("onehot", "adjoint", 1_000): 2.0,
    ("fastfood", "apply", 1_000): 2.7,
    ("fastfood", "adjoint", 1_000): 3.7,
    ("fastfood", "apply", 1_000_000): 6.0,
    ("fastfood", "adjoint", 1_000_000): 6.0,
}
"""The same on an H100."""

GPU_DIMS = {"onehot": (1_000, 1_000_000), "fastfood": (200, 1_000, 10_000, 1_000_000)}
"""Values of d that are measured on a GPU."""


@dataclass(frozen=True)
class Sizes:
    """How large the benchmark is.

    Attributes:
        D: number of weights.
        dims: values of d for each projection.
        sample: number of weights to measure if D would take too long.
        repetitions: after warm-up.
    """

    D: int
    dims: dict[str, tuple[int, ...]]
    sample: dict[str, int]
    repetitions: int


ALL_DIMS = (200, 1_000, 10_000, 100_000, 1_000_000)

FULL = Sizes(
    D=125_000_000,
    dims={
        "fastfood": ALL_DIMS,
        "onehot": ALL_DIMS,
        "sparse": ALL_DIMS[:3],
        "dense": ALL_DIMS[:1],
        FULL_LENGTH: (1_000,),
    },
    sample={"dense": 2**20, FULL_LENGTH: 2**24},
    repetitions=9,
)

QUICK = Sizes(
    D=1_000_000,
    dims={"fastfood": (200, 1_000), "onehot": (200,), "dense": (200,), FULL_LENGTH: (200,)},
    sample={"dense": 2**12, FULL_LENGTH: 2**12},
    repetitions=5,
)


def cases(*, quick: bool) -> list[Case]:
    """A case for each projection and d."""
    sizes = QUICK if quick else FULL
    return [
        Case(f"kernels {name} d={d}", partial(_measure, sizes, name, d))
        for name, dims in sizes.dims.items()
        for d in dims
    ]


def operations(name: str, d: int, theta_0: Tensor, out: Tensor) -> dict[str, Work]:
    """Apply and adjoint of a projection over theta_0, which also serves as the gradient."""
    P = make_projection(name, d=d, D=len(theta_0))
    z = torch.randn(d, generator=torch.Generator().manual_seed(0)).to(theta_0.device)
    return {
        "apply": lambda: P.add_projected(z, [theta_0], [0], [1.0], out=[out]),
        "adjoint": lambda: P.pull_back([theta_0], [0], [1.0]),
    }


def weights(D: int, device: str = "cpu") -> Tensor:
    """D float32 weights, with every page in memory."""
    return torch.full((D,), 0.02, device=device)


def _measure(sizes: Sizes, name: str, d: int) -> list[Entry]:
    need_memory(2 * 4 * sizes.D)
    theta_0, out = weights(sizes.D), weights(sizes.D)
    n = sizes.sample.get(name, sizes.D)
    work: dict[str, Work] = {"copy": lambda: out.copy_(theta_0)}
    if name == FULL_LENGTH:
        work |= _full_length(d, theta_0[:n])
    else:
        work |= operations(name, d, theta_0[:n], out[:n])
    times = side_by_side(work, sizes.repetitions)
    factor = (_padded(sizes.D) if name == FULL_LENGTH else sizes.D) / n
    sample = f", measured at {n:,} weights and scaled" if n != sizes.D else ""
    return [
        Entry.of(
            f"{name} {op}, d = {d:,}, D = {sizes.D:,}{sample}",
            ratio(times[op], times["copy"], factor),
            "copies",
            at_most=TARGETS.get((name, op, d)),
            kind="kernel",
            projection=name,
            operation=op,
            d=d,
            D=sizes.D,
            sample=n,
            seconds=spread(times[op]).value * factor,
        )
        for op in OPERATIONS
    ]


def _full_length(d: int, theta_0: Tensor) -> dict[str, Work]:
    P = FullLengthFastfood(d, len(theta_0))
    z = torch.randn(d, generator=torch.Generator().manual_seed(0))
    return {"apply": lambda: P.add_projected(z, theta_0), "adjoint": lambda: P.adjoint(theta_0)}


def _padded(D: int) -> int:
    return 1 << (D - 1).bit_length()
