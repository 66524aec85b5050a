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
        seeds_tried: number of seeds whose runs ended, those without a valid result included.
    """

    d: int
    by_seed: Mapping[int, float]
    seeds_tried: int

    @property
    def best(self) -> float:
        """The point's height: mean over seeds of the best metric over learning rates."""
        return fmean(self.by_seed.values())

    @property
    def is_stable(self) -> bool:
        """Whether more than half of the seeds tried trained: fewer may have been lucky."""
        return 2 * len(self.by_seed) > self.seeds_tried

    def passes(self, threshold: float) -> bool:
        """Whether it is stable, and its height at or above the threshold."""
        return self.is_stable and passes(self.best, threshold)


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
    results = list(results)
    best: dict[int, dict[int, float]] = {}
    for result in valid_results(results):
        d, metric = result.trial.d, result.metric
        if d is None or metric is None:
            continue
        seeds = best.setdefault(d, {})
        seeds[result.trial.seed] = max(metric, seeds.get(result.trial.seed, -math.inf))
    tried = seeds_tried(results)
    return tuple(Point(d, best[d], len(tried[d])) for d in sorted(best))


def seeds_tried(results: Iterable[TrialResult]) -> dict[int, set[int]]:
    """The seeds tried at each d; a run that `failed` (an error) says nothing about its seed."""
    tried: dict[int, set[int]] = {}
    for result in results:
        if result.trial.d is not None and result.status != "failed":
            tried.setdefault(result.trial.d, set()).add(result.trial.seed)
    return tried


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
