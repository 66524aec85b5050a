"""The curve a study measures: its best metric at each d, from records alone.

No torch here: protocols decide by it where to look next, and estimators read d90 off it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean

from d90.search.trial import TrialResult

ROUNDING = 1e-12
"""Slack of `passes`: 0.9 * 0.8 is a little above 0.72 in floating point, and must not fail it."""


@dataclass(frozen=True)
class Point:
    """One d of the curve.

    Attributes:
        d: dimension of the subspace.
        by_seed: best metric over the learning rates, for every seed with a usable run.
    """

    d: int
    by_seed: Mapping[int, float]

    @property
    def best(self) -> float:
        """The point's height: mean over seeds of the best metric over learning rates."""
        return fmean(self.by_seed.values())


def valid_results(results: Iterable[TrialResult]) -> list[TrialResult]:
    """The records that count: usable ones whose metric is a number."""
    return [r for r in results if r.is_valid and r.metric is not None and math.isfinite(r.metric)]


def curve(results: Iterable[TrialResult]) -> tuple[Point, ...]:
    """The points of the curve in ascending d; a d without a usable run has no point.

    >>> from d90.search.trial import Trial
    >>> metrics = {0.1: 0.6, 0.2: 0.7}
    >>> runs = [TrialResult(Trial(10, rate, 0), "ok", metrics[rate]) for rate in metrics]
    >>> [(point.d, point.best) for point in curve(runs)]
    [(10, 0.7)]
    """
    best: dict[int, dict[int, float]] = {}
    for result in valid_results(results):
        d, metric = result.trial.d, result.metric
        if d is None or metric is None:
            continue
        seeds = best.setdefault(d, {})
        seeds[result.trial.seed] = max(metric, seeds.get(result.trial.seed, -math.inf))
    return tuple(Point(d, best[d]) for d in sorted(best))


def full_metric(results: Iterable[TrialResult]) -> float | None:
    """The best metric of the full fine-tuning runs, the baseline of d90; None when none trained."""
    metrics = [r.metric for r in valid_results(results) if r.trial.is_full and r.metric is not None]
    return max(metrics, default=None)


def passes(metric: float, threshold: float) -> bool:
    """Whether the metric is at or above the threshold, but for rounding."""
    return metric >= threshold - ROUNDING
