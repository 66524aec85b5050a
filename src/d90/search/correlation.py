"""Rank correlation with an interval, for figures of few points.

This module imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

LEVEL = 0.95
MIN_POINTS = 4
"""With fewer points there is no interval (its variance has n - 3 in the denominator)."""


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation of n points.

    Attributes:
        rho: from -1 to 1.
        low, high: its 95% interval; None below `MIN_POINTS` points.
        n: number of points.
    """

    rho: float
    low: float | None
    high: float | None
    n: int

    def __str__(self) -> str:
        span = "" if self.low is None else f", 95% interval {self.low:.2f} to {self.high:.2f}"
        return f"Spearman's rho = {self.rho:.2f}{span}, n = {self.n}"


def spearman(x: Sequence[float], y: Sequence[float]) -> Correlation | None:
    """Spearman's rho, with the interval of Bonett and Wright (Psychometrika 65, 2000).

        tanh(atanh(rho') -+ 1.96 sqrt((1 + rho'^2 / 2) / (n - 3)))

    rho' is rho moved towards 0 by half a step of its possible values, 6 / (n (n^2 - 1)): without
    that a perfect order of four points would have an interval of no width.

    Returns:
        None where rho is not defined: fewer than two points, or all x or all y equal.

    >>> print(spearman([1, 2, 3, 4, 5], [10, 20, 40, 30, 50]))
    Spearman's rho = 0.90, 95% interval -0.35 to 0.99, n = 5
    """
    from scipy.stats import norm, spearmanr

    n = len(x)
    if n != len(y):
        raise ValueError(f"{n} values of x and {len(y)} of y")
    if n < 2 or len(set(x)) == 1 or len(set(y)) == 1:
        return None
    result: Any = spearmanr(x, y)
    rho = max(-1.0, min(1.0, round(float(result.statistic), 12)))
    if n < MIN_POINTS:
        return Correlation(rho, None, None, n)
    inner = math.copysign(max(abs(rho) - 6 / (n * (n * n - 1)), 0.0), rho)
    half = float(norm.ppf((1 + LEVEL) / 2)) * math.sqrt((1 + inner**2 / 2) / (n - 3))
    low, high = (math.tanh(math.atanh(inner) + sign * half) for sign in (-1, 1))
    return Correlation(rho, min(low, rho), max(high, rho), n)
