"""Dimensions of a ladder."""

from __future__ import annotations

from itertools import pairwise

from d90.search.ladder import ladder


def test_ladder() -> None:
    dims = ladder(10, 100_000)
    assert (dims[0], dims[-1], len(dims)) == (10, 100_000, 64)
    assert max(b / a for a, b in pairwise(dims)) < 1.25
    assert ladder(7, 7) == (7,)
