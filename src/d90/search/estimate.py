"""Estimate d90 and its interval from the results of trials, or the reason that there is none.

This module imports no torch.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Literal

import numpy as np

from d90.errors import D90Error
from d90.search.curve import Point, curve, full_metric, passes, valid_results
from d90.search.trial import TrialResult

EstimateStatus = Literal[
    "ok",
    "undefined-baseline",
    "trivial-threshold",
    "above-maximum",
    "at-minimum",
    "unstable",
]

Interval = tuple[int | None, int | None]

RESAMPLES = 2000
"""Bootstrap samples of the seeds."""

LEVEL = 0.95
"""Level of the interval."""

WIDE_GAP = 1.5
"""Ratio of neighboring dimensions above which the resolution is worth a warning."""

FEW_SEEDS = 3
"""With fewer seeds the interval gets a warning (docs/estimators.md has its coverage)."""

FALSE_ALARMS = 0.05
"""How often a monotone curve with normal noise may get the warning that it is not monotone."""


@dataclass(frozen=True)
class Estimate:
    """d90 of a study, or why it has none.

    Attributes:
        status: `ok`, or why there is no d90 (`estimate` defines each status).
        d90: the smallest d tried whose best metric reaches the threshold; None unless `ok`.
        interval: 95% interval of the d at which the curve crosses the threshold, for two
            seeds or more; None otherwise. A seed decides the projection, data order and dropout
            of its runs. An end is None when it is open: below the smallest d tried, or above the
            largest.
        full_metric: best metric of full fine-tuning, None if no such run trained.
        threshold: target_fraction * full_metric.
        best: best metric at each d with a valid run.
        warnings: one line each.
        reason: why there is no d90, in one line; empty when `ok`.
    """

    status: EstimateStatus
    d90: int | None = None
    interval: Interval | None = None
    full_metric: float | None = None
    threshold: float | None = None
    best: Mapping[int, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    reason: str = ""


def estimate(
    results: Iterable[TrialResult],
    *,
    majority: float,
    target_fraction: float = 0.9,
    evaluation_size: int | None = None,
) -> Estimate:
    """d90: the smallest d tried whose best metric reaches `target_fraction` of full fine-tuning.

        best(d)   = mean over seeds of max over learning rates of metric(d, learning rate, seed)
        threshold = target_fraction * max over learning rates of the full fine-tuning metric
        d90       = min {d : best(d) >= threshold}

    Only valid runs count: one that collapsed to a single class, diverged or failed is excluded. The
    first condition that holds is the status; only `ok` has a d90:

    * `undefined-baseline`: full fine-tuning did not train, or does not beat the majority class;
    * `trivial-threshold`: the threshold is at or below the majority class, so that a constant
      predictor would pass;
    * `unstable`: no subspace run is valid;
    * `above-maximum`: no d tried reaches the threshold;
    * `at-minimum`: the smallest d tried reaches it, which bounds d90 from above only;
    * `ok`.

    Args:
        results: of full fine-tuning and subspace runs, in any order.
        majority: metric of the best constant predictor.
        target_fraction: the 0.9 of d90, in (0, 1].
        evaluation_size: number of evaluation examples, when the metric is an accuracy: its
            binomial standard error then counts as noise.

    Raises:
        D90Error: target_fraction or evaluation_size is out of its range.

    Source: Aghajanyan et al. 2021, section 3; the names of the statuses are ours.
    """
    _check(target_fraction, evaluation_size)
    results = list(results)
    points = curve(results)
    full = full_metric(results)
    threshold = None if full is None else target_fraction * full
    status, reason = _status(points, full, threshold, majority, results)
    warnings = [*_run_warnings(results, points), *_seed_warnings(points)]
    warnings += _monotone_warnings(points, evaluation_size)
    d90, interval = None, None
    if status == "ok" and threshold is not None:
        d90 = next(p.d for p in points if passes(p.best, threshold))
        interval = _interval(points, threshold)
        warnings += _resolution_warnings(points, d90, threshold)
    return Estimate(
        status=status,
        d90=d90,
        interval=interval,
        full_metric=full,
        threshold=threshold,
        best={p.d: p.best for p in points},
        warnings=tuple(warnings),
        reason=reason,
    )


def _check(target_fraction: float, evaluation_size: int | None) -> None:
    if not 0 < target_fraction <= 1:
        raise D90Error(
            f"target_fraction is {target_fraction}: expected a number above 0 and at most 1 "
            "(the paper's is 0.9)."
        )
    if evaluation_size is not None and evaluation_size < 1:
        raise D90Error(f"evaluation_size is {evaluation_size}: expected at least one example.")


def _status(
    points: Sequence[Point],
    full: float | None,
    threshold: float | None,
    majority: float,
    results: Sequence[TrialResult],
) -> tuple[EstimateStatus, str]:
    """The status, and its reason in one line unless it is `ok`."""
    if full is None or threshold is None:
        tried = sum(r.trial.is_full for r in results)
        what = f"none of {tried} full fine-tuning runs trained" if tried else "there is none yet"
        return "undefined-baseline", f"no full fine-tuning baseline: {what}"
    if passes(majority, full):
        return "undefined-baseline", (
            f"full fine-tuning reaches {full:.4f}, which does not beat the majority class "
            f"({majority:.4f})"
        )
    if passes(majority, threshold):
        return "trivial-threshold", (
            f"the threshold {threshold:.4f} is not above the majority class ({majority:.4f}): "
            "a constant predictor would pass"
        )
    if not points:
        tried = sum(not r.trial.is_full for r in results)
        what = f"none of {tried} subspace runs trained" if tried else "no subspace run yet"
        return "unstable", what
    if not any(passes(p.best, threshold) for p in points):
        top = max(points, key=lambda p: p.best)
        largest = max(r.trial.d for r in results if r.trial.d is not None)
        return "above-maximum", (
            f"no d up to {largest:,} reaches {threshold:.4f} (best: {top.best:.4f} at "
            f"d = {top.d:,})"
        )
    smallest = min(r.trial.d for r in results if r.trial.d is not None)
    if points[0].d == smallest and passes(points[0].best, threshold):
        return "at-minimum", (
            f"the smallest d tried, {smallest:,}, already reaches {threshold:.4f}: d90 <= "
            f"{smallest:,}, an upper bound only; try smaller d"
        )
    return "ok", ""


def _interval(points: Sequence[Point], threshold: float) -> Interval | None:
    """Where the curve crosses the threshold: 95% of bootstrap samples over seeds.

    Each sample draws seeds with replacement, averages them at every d, fits a curve that is
    non-decreasing in log d (isotonic regression, weighted by the number of seeds at each d) and
    finds the two neighboring dimensions between which it crosses. The interval goes from the
    lower quantile of their lower ones to the upper quantile of their upper ones: the spread over
    seeds and the resolution of the dimensions.
    """
    # Imported on use: scikit-learn takes a second to load.
    from sklearn.isotonic import isotonic_regression

    seeds = sorted({seed for point in points for seed in point.by_seed})
    if len(seeds) < 2:
        return None
    dims = np.array([point.d for point in points])
    table = np.array([[p.by_seed.get(seed, math.nan) for seed in seeds] for p in points])
    present = ~np.isnan(table)
    metrics = np.where(present, table, 0.0)
    generator = np.random.default_rng(90)
    draws = generator.multinomial(len(seeds), [1 / len(seeds)] * len(seeds), size=RESAMPLES)
    samples, times = np.unique(draws, axis=0, return_counts=True)
    crossings = []
    for draw in samples:
        weights = present @ draw
        kept = weights > 0
        means = (metrics @ draw)[kept] / weights[kept]
        fitted = isotonic_regression(means, sample_weight=weights[kept].astype(float))
        crossings.append(_crossing(dims[kept], fitted, threshold))
    lows, highs = (np.repeat(ends, times) for ends in zip(*crossings, strict=True))
    tail = (1 - LEVEL) / 2
    low = np.quantile(lows, tail, method="lower")
    high = np.quantile(highs, 1 - tail, method="higher")
    return int(low) or None, int(high) if math.isfinite(high) else None


def _crossing(dims: np.ndarray, fitted: np.ndarray, threshold: float) -> tuple[float, float]:
    """The neighboring dimensions around the crossing; 0 and infinity beyond the ends."""
    above = [passes(value, threshold) for value in fitted]
    first = above.index(True) if any(above) else len(dims)
    ends = [0.0, *dims, math.inf]
    return ends[first], ends[first + 1]


def _run_warnings(results: Sequence[TrialResult], points: Sequence[Point]) -> list[str]:
    """Excluded runs, and dimensions that have no other."""
    warnings = []
    counted = {id(r) for r in valid_results(results)}
    excluded = Counter(
        "no metric" if r.status == "ok" else r.status for r in results if id(r) not in counted
    )
    if excluded:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(excluded.items()))
        warnings.append(f"{excluded.total()} of {len(results)} runs are excluded: {kinds}")
    tried = {r.trial.d for r in results if r.trial.d is not None}
    empty = sorted(tried - {p.d for p in points})
    if empty and points:
        warnings.append(
            f"no run trained at d = {_format_dims(empty)}: the curve has no point there"
        )
    return warnings


def _seed_warnings(points: Sequence[Point]) -> list[str]:
    """Dimensions whose mean is over fewer seeds than the study has."""
    seeds = {seed for point in points for seed in point.by_seed}
    short = [p.d for p in points if len(p.by_seed) < len(seeds)]
    if not short:
        return []
    return [f"fewer than {len(seeds)} seeds trained at d = {_format_dims(short)}"]


def _monotone_warnings(points: Sequence[Point], evaluation_size: int | None) -> list[str]:
    """The largest fall of the curve, in standard errors, unless noise explains it.

    Every pair of dimensions is a comparison, so the critical value is Bonferroni's. Without any
    measure of the noise (one seed, evaluation size not given) every fall is reported.
    """
    from scipy.special import stdtrit

    errors, freedom = _standard_errors(points, evaluation_size)
    pairs = len(points) * (len(points) - 1) // 2
    falls = []
    for (low, low_error), (high, high_error) in combinations(zip(points, errors, strict=True), 2):
        fall, error = low.best - high.best, math.hypot(low_error, high_error)
        if fall > 0:
            falls.append((fall / error if error else math.inf, fall, low, high))
    if not falls:
        return []
    worst, _, low, high = max(falls, key=lambda item: item[:2])
    if worst <= stdtrit(freedom, 1 - FALSE_ALARMS / pairs):
        return []
    size = f"{worst:.1f} standard errors" if math.isfinite(worst) else "no known noise"
    return [
        f"not monotone: the best metric falls from {low.best:.4f} at d = {low.d:,} to "
        f"{high.best:.4f} at d = {high.d:,} ({size})"
    ]


def _standard_errors(
    points: Sequence[Point], evaluation_size: int | None
) -> tuple[list[float], float]:
    """Standard error of each point, and the degrees of freedom behind it.

    The larger of two: from the spread over seeds, with one variance for all dimensions because
    each has few seeds; and the binomial sqrt(p (1 - p) / n) of an accuracy p on n examples.
    """
    squares, freedom = 0.0, 0
    for point in points:
        squares += sum((metric - point.best) ** 2 for metric in point.by_seed.values())
        freedom += len(point.by_seed) - 1
    variance = squares / freedom if freedom else 0.0
    errors = []
    for point in points:
        sampling = point.best * (1 - point.best) / evaluation_size if evaluation_size else 0.0
        errors.append(math.sqrt(max(variance / len(point.by_seed), sampling, 0.0)))
    return errors, freedom or math.inf


def _resolution_warnings(points: Sequence[Point], d90: int, threshold: float) -> list[str]:
    """Limits of the estimate due to the dimensions and seeds that were tried."""
    warnings = []
    below = [p.d for p in points if p.d < d90]
    if not below:
        warnings.append(f"no run trained below d90 = {d90:,}: d90 may be smaller")
    elif d90 / below[-1] > WIDE_GAP:
        warnings.append(
            f"coarse: d90 lies above {below[-1]:,} and at most at {d90:,}, with no d tried between"
        )
    later = [p.d for p in points if p.d > d90 and not passes(p.best, threshold)]
    if later:
        warnings.append(
            f"d = {_format_dims(later)} does not reach the threshold, above d90 = {d90:,}"
        )
    seeds = {seed for point in points for seed in point.by_seed}
    if 1 < len(seeds) < FEW_SEEDS:
        warnings.append(f"the interval rests on {len(seeds)} seeds: it may well be too narrow")
    return warnings


def _format_dims(dims: Sequence[int]) -> str:
    """The dimensions, at most five of them."""
    shown = ", ".join(f"{d:,}" for d in dims[:5])
    return shown if len(dims) <= 5 else f"{shown} and {len(dims) - 5} more"


def relative_generalization_gap(train_accuracy: float, accuracy: float) -> float:
    """(train accuracy - evaluation accuracy) / (1 - evaluation accuracy).

    The fraction of the evaluation error that is absent in training (Aghajanyan et al. 2021,
    Figure 5; the denominator is not legible in every copy, and this is its usual reading).

    Raises:
        D90Error: at an evaluation accuracy of 1, where it is not defined.

    >>> round(relative_generalization_gap(0.95, 0.8), 3)
    0.75
    """
    if accuracy >= 1:
        raise D90Error(f"accuracy is {accuracy}: the gap is relative to the error, which is 0.")
    return (train_accuracy - accuracy) / (1 - accuracy)
