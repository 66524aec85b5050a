"""Rank correlation with an interval, for figures of few points that share models.

This module imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from d90.search.curve_model import Array
from d90.search.posterior import LEVEL, Draws

MIN_CLUSTERS = 4
"""With fewer there is no interval."""

RESAMPLES = 2000
SEED = 0


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation of n points.

    Attributes:
        rho: from -1 to 1.
        low, high: its 95% interval; None below `MIN_CLUSTERS` clusters.
        n, clusters: number of points, and of the independent clusters that they are in.
    """

    rho: float
    low: float | None
    high: float | None
    n: int
    clusters: int

    def __str__(self) -> str:
        span = "" if self.low is None else f", 95% interval {self.low:.2f} to {self.high:.2f}"
        of = "" if self.clusters == self.n else f" of {self.clusters} models"
        return f"Spearman's rho = {self.rho:.2f}{span}, n = {self.n}{of}"

    def verdict(self, sign: Literal[-1, 1]) -> str:
        """What it says about a claim that rho has this sign.

        >>> [Correlation(-0.7, low, 0.64, 5, 5).verdict(-1) for low in (-0.98, None)]
        ['undecided, consistent with the claim', 'too few models for an interval']
        >>> [Correlation(-0.7, -0.9, -0.1, 9, 9).verdict(sign) for sign in (-1, 1)]
        ['agrees with the claim', 'contradicts the claim']
        """
        if self.low is None or self.high is None:
            return "too few models for an interval"
        if self.low <= 0 <= self.high:
            return "undecided" + (", consistent with the claim" if self.rho * sign > 0 else "")
        return "agrees with the claim" if self.rho * sign > 0 else "contradicts the claim"


def spearman(
    x: Sequence[float], y: Sequence[float], clusters: Sequence[Hashable] | None = None
) -> Correlation | None:
    """Spearman's rho, with an interval that holds where points come in clusters.

    Tied values share their mean rank; infinite ones are the highest or the lowest. The interval is
    the wider, at each end, of two, either of which alone is too narrow somewhere:

    * Bonett and Wright's (Psychometrika 65, 2000) for independent points,
      `tanh(atanh(rho') -+ 1.96 sqrt((1 + rho'^2 / 2) / (n - 3)))`, where rho' is rho moved towards
      0 by half a step of its possible values, 6 / (n (n^2 - 1)): a perfect order has a width too;
    * the 2.5% and 97.5% quantiles of rho over resampled clusters (the cluster bootstrap), which
      counts a model with many points as one. Its draws are seeded.

    Args:
        x, y: the points.
        clusters: which cluster each is in, such as its model; each its own if None.

    Returns:
        None where rho is not defined: fewer than two points, or all x or all y equal.

    >>> print(spearman([1, 2, 3, 4, 5], [10, 20, 40, 30, 50]))
    Spearman's rho = 0.90, 95% interval -0.35 to 1.00, n = 5
    """
    n = len(x)
    names = list(range(n)) if clusters is None else list(clusters)
    if not n == len(y) == len(names):
        raise ValueError(f"{n} values of x, {len(y)} of y and {len(names)} clusters")
    if n < 2 or len(set(x)) == 1 or len(set(y)) == 1:
        return None
    distinct = list(dict.fromkeys(names))
    members = np.array([[name == cluster for name in names] for cluster in distinct], dtype=float)
    rho = float(_weighted_rho(x, y, np.ones((1, n)))[0])
    if len(distinct) < MIN_CLUSTERS:
        return Correlation(rho, None, None, n, len(distinct))
    ends = [_bonett_wright(rho, n), _resampled(x, y, members)]
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    return Correlation(rho, min(low, rho), max(high, rho), n, len(distinct))


def _bonett_wright(rho: float, n: int) -> tuple[float, float]:
    from scipy.stats import norm

    inner = math.copysign(max(abs(rho) - 6 / (n * (n * n - 1)), 0.0), rho)
    half = float(norm.ppf((1 + LEVEL) / 2)) * math.sqrt((1 + inner**2 / 2) / (n - 3))
    return math.tanh(math.atanh(inner) - half), math.tanh(math.atanh(inner) + half)


def _resampled(x: Sequence[float], y: Sequence[float], members: Array) -> tuple[float, float]:
    """Quantiles of rho over clusters drawn with replacement, of the draws where it is defined.

    Args:
        members: 1 where a point is in a cluster, shape (clusters, points).
    """
    count = len(members)
    chosen = (Draws(SEED).uniform(RESAMPLES, count) * count).astype(int)
    weights = (chosen[:, :, None] == np.arange(count)).sum(axis=1) @ members
    rho = _weighted_rho(x, y, weights)
    rho = rho[np.isfinite(rho)]
    low, high = np.quantile(rho, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _weighted_rho(x: Sequence[float], y: Sequence[float], weights: Array) -> Array:
    """Spearman's rho where each point occurs so many times; NaN where not defined.

    Args:
        weights: shape (resamples, points).
    """
    n = weights.sum(axis=1, keepdims=True)
    a, b = (_ranks(values, weights) - (n + 1) / 2 for values in (x, y))
    spread = (weights * a**2).sum(axis=1) * (weights * b**2).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        rho = np.where(spread > 0, (weights * a * b).sum(axis=1) / np.sqrt(spread), np.nan)
    return np.clip(np.round(rho, 12), -1.0, 1.0).astype(float)


def _ranks(values: Sequence[float], weights: Array) -> Array:
    """Mean ranks of the points, counted with their weights, shape (resamples, points)."""
    column = np.array(values, dtype=float)
    below, equal = column[:, None] < column, column[:, None] == column
    return weights @ below + (weights @ equal + 1) / 2
