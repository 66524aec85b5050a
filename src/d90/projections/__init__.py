"""P : R^d -> R^D, one file an operator, one contract (`Projection`)."""

from __future__ import annotations

from d90.errors import unknown_name
from d90.projections.aghajanyan2021 import Aghajanyan2021
from d90.projections.base import Projection
from d90.projections.dense import Dense
from d90.projections.fastfood import Fastfood
from d90.projections.onehot import OneHot
from d90.projections.sparse import Sparse

__all__ = [
    "COMPATIBLE",
    "PROJECTIONS",
    "Aghajanyan2021",
    "Dense",
    "Fastfood",
    "OneHot",
    "Projection",
    "Sparse",
    "make_projection",
]

PROJECTIONS: dict[str, type[Projection]] = {
    "dense": Dense,
    "sparse": Sparse,
    "fastfood": Fastfood,
    "onehot": OneHot,
}

COMPATIBLE: dict[str, type[Projection]] = {"aghajanyan2021": Aghajanyan2021}
"""Operators of other people's code, for cross-checks only; they may break the contract."""


def make_projection(
    name: str, *, d: int, D: int, seed: int = 0, compat: str | None = None
) -> Projection:
    """The projection of that name.

    Args:
        name: a key of `PROJECTIONS`.
        d: dimension of the subspace.
        D: number of weights.
        seed: seed of the projection.
        compat: a key of `COMPATIBLE`, to reproduce other people's operator instead (fastfood only).

    Raises:
        D90Error: for an unknown name, or d, D or seed out of range.

    >>> make_projection("onehot", d=3, D=1000, seed=7)
    OneHot(d=3, D=1000, seed=7)
    """
    if name not in PROJECTIONS:
        raise unknown_name("projection", name, PROJECTIONS)
    if compat is None:
        return PROJECTIONS[name](d, D, seed)
    if compat not in COMPATIBLE or name != "fastfood":
        raise unknown_name("compat (for fastfood)", compat, COMPATIBLE)
    return COMPATIBLE[compat](d, D, seed)
