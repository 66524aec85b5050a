"""Projections P : R^d -> R^D: one module per operator, one interface (`Projection`)."""

from __future__ import annotations

from d90.errors import unknown_name
from d90.projections.base import Projection
from d90.projections.dense import Dense
from d90.projections.fastfood import Fastfood
from d90.projections.onehot import OneHot
from d90.projections.sparse import Sparse

__all__ = [
    "PROJECTIONS",
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


def make_projection(name: str, *, d: int, D: int, seed: int = 0) -> Projection:
    """Create a projection by name.

    Args:
        name: a key of `PROJECTIONS`.
        d: dimension of the subspace.
        D: number of weights.
        seed: seed of the projection.

    Raises:
        D90Error: unknown name, or d, D or seed out of range.

    >>> make_projection("onehot", d=3, D=1000, seed=7)
    OneHot(d=3, D=1000, seed=7)
    """
    if name not in PROJECTIONS:
        raise unknown_name("projection", name, PROJECTIONS)
    return PROJECTIONS[name](d, D, seed)
