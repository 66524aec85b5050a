"""Reproducible subsets of rows: a limit selects the same rows in every version."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from d90.errors import D90Error


def limited_rows(count: int, limit: int | None, seed: int, *, option: str) -> Sequence[int]:
    """The first `limit` of a seeded shuffle of 0..count-1, in ascending order.

    The shuffle sorts by the SHA-256 of "seed:index", so it does not depend on the random generator
    of any library. A smaller limit keeps a subset of the rows of a larger one.

    >>> limited_rows(5, 2, 0, option="max_train_samples")
    [3, 4]
    >>> limited_rows(5, None, 0, option="max_train_samples")
    range(0, 5)

    Raises:
        D90Error: a limit below 1; the message calls it `option`.
    """
    if limit is not None and limit < 1:
        raise D90Error(f"{option} must be at least 1, got {limit}: leave it out to keep all rows.")
    if limit is None or limit >= count:
        return range(count)
    return sorted(sorted(range(count), key=lambda index: _sort_key(seed, index))[:limit])


def _sort_key(seed: int, index: int) -> bytes:
    return hashlib.sha256(f"{seed}:{index}".encode()).digest()
