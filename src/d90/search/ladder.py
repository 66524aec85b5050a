"""Dimensions that are evenly spaced in log d."""

from __future__ import annotations

import math

RATIO = 1.157
"""Of neighboring rungs of a ladder: the values of the paper's Table 1 lie on one."""


def log_spaced(min_dim: int, max_dim: int, count: int) -> tuple[int, ...]:
    """Whole numbers from min_dim to max_dim, both included, evenly spaced in log d."""
    ratio = max_dim / min_dim
    return tuple(sorted({round(min_dim * ratio ** (i / (count - 1))) for i in range(count)}))


def ladder(min_dim: int, max_dim: int, ratio: float = RATIO) -> tuple[int, ...]:
    """Dimensions from min_dim to max_dim, each about `ratio` times the one before."""
    steps = round(math.log(max_dim / min_dim) / math.log(ratio))
    return log_spaced(min_dim, max_dim, max(steps, 1) + 1)
