"""The curve that a study measures: the best metric at each d.

This module imports no torch. Protocols choose the next trials from the curve, and the estimator
reads d90 off it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean

from d90.search.trial import TrialResult

ROUNDING = 1e-12
"""Tolerance of `passes`: 0.9 * 0.8 is slightly above 0.72 in floating point."""


@dataclass(frozen=True)
class Point:
    """One d of the curve.

    Attributes:
        d: dimension of the subspace.
        by_seed: best metric over the learning rates, for every seed with a valid run.
    """

    d: int
    by_seed: Mapping[int, float]

    @property
    def best(self) -> float:
        """The point's height: mean over seeds of the best metric over learning rates."""
        return fmean(self.by_seed.values())


def valid_results(results: Iterable[TrialResult]) -> list[TrialResult]:
    """The results that count: of runs that trained, with a finite metric."""
    return [r for r in results if r.is_valid and r.metric is not None and math.isfinite(r.metric)]


def curve(results: Iterable[TrialResult]) -> tuple[Point, ...]:
    """The points of the curve in ascending d; a d without a valid run has no point.

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
    """The metric of full fine-tuning, the baseline of d90; None if no such run trained.

    The mean over seeds at the learning rate where that is highest: the best run would be too high.
    """
    metrics: dict[float, list[float]] = {}
    for result in valid_results(results):
        if result.trial.is_full and result.metric is not None:
            metrics.setdefault(result.trial.learning_rate, []).append(result.metric)
    return max(map(fmean, metrics.values()), default=None)


def passes(metric: float, threshold: float) -> bool:
    """Whether the metric is at or above the threshold, up to rounding."""
    return metric >= threshold - ROUNDING
