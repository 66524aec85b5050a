"""d90 and its interval from the results of trials of any protocol, or why there is none.

This module imports no torch.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Literal, NamedTuple

from d90.errors import D90Error
from d90.search.criteria import PRETRAINED_MODEL, check_criterion_of, score_threshold
from d90.search.curve import Point, curve, full_metric, passes, seeds_tried, valid_results
from d90.search.curve_model import CurveModel, records, runs_of
from d90.search.ladder import ladder
from d90.search.posterior import (
    ANSWER_PARTICLES,
    ANSWER_SEED,
    Answer,
    Posterior,
    sample_posterior,
)
from d90.search.trial import TrialResult

EstimateStatus = Literal[
    "ok",
    "undefined-baseline",
    "already-satisfied",
    "trivial-threshold",
    "unstable",
    "optimization-limited",
    "above-maximum",
    "at-minimum",
]

Interval = tuple[int | None, int | None]

DEFAULT_EVALUATION_SIZE = 1000
"""Of the prior of the noise, where the metric is no accuracy."""

WIDE_GAP = 1.5
"""Ratio of neighboring dimensions above which the resolution is worth a warning."""

DISAGREEMENT = 1.5
"""Ratio of d90 and the first passing d above which the difference is worth a warning."""

FALSE_ALARMS = 0.05
"""How often a monotone curve with normal noise may get the warning that it is not monotone."""


class BandPoint(NamedTuple):
    """The mean metric at one d and its best learning rate: quantiles of the posterior.

    Attributes:
        low, median, high: 2.5%, 50% and 97.5%.
    """

    d: int
    low: float
    median: float
    high: float


@dataclass(frozen=True)
class Estimate:
    """d90 of a study, or why it has none.

    Attributes:
        status: `ok`, or why there is no d90 (`estimate` defines each status).
        d90: the posterior's median; None unless `ok`.
        interval: its 95% interval; None where there is no posterior. An end is None when it is
            open: below the smallest d tried, or above the largest.
        first_passing_d: the paper's own definition: the smallest d tried whose best metric reaches
            the threshold, whatever the status; None if there is none.
        full_metric: of full fine-tuning (`d90.search.curve.full_metric`).
        threshold: the metric that passes (`d90.search.criteria.score_threshold`).
        best: best metric at each d with a valid run.
        band: the curve of the posterior.
        warnings: one line each.
        reason: why there is no d90, in one line; empty when `ok`.
    """

    status: EstimateStatus
    d90: int | None = None
    interval: Interval | None = None
    first_passing_d: int | None = None
    full_metric: float | None = None
    threshold: float | None = None
    best: Mapping[int, float] = field(default_factory=dict)
    band: tuple[BandPoint, ...] = ()
    warnings: tuple[str, ...] = ()
    reason: str = ""


def estimate(
    results: Iterable[TrialResult],
    *,
    majority: float,
    target_fraction: float = 0.9,
    criterion_of: str = "metric",
    evaluation_size: int | None = None,
    dims: Sequence[int] | None = None,
    D: int | None = None,
    reference: str = "majority class",
) -> Estimate:
    """d90: where the mean metric at the best learning rate crosses the threshold.

        threshold = target_fraction * (what full fine-tuning reaches), or that of its gain
        d90       = min {d : max over learning rates of the mean metric >= threshold}

    The posterior of the curve (`d90.search.curve_model`) given the results gives its median and its
    95% interval: over the seeds of P, of the data order and of dropout, of the subspace runs and
    of the baseline, with the evaluation examples as given.

    The first condition that holds is the status; only `ok` has a d90:

    * `undefined-baseline`: full fine-tuning did not train, or does not beat the majority class;
    * `already-satisfied`: the reference is the pretrained model, and it reaches the threshold
      itself: d90 is 0;
    * `trivial-threshold`: the threshold is at or below the majority class, so that a constant
      predictor would pass;
    * `unstable`: no subspace run is valid; or no d passes, and nothing trained at the two largest d
      tried; or d90 rests on lucky runs: each d that reaches the threshold is one where no more than
      half of the seeds trained;
    * `optimization-limited`: as `above-maximum`, but the largest d tried is above D / 2, or that of
      `dims` is D, so that it is not d that limits the runs;
    * `above-maximum`: more likely than not, no d up to the largest reaches the threshold;
    * `at-minimum`: more likely than not, the smallest d reaches it, which bounds d90 from above
      only;
    * `ok`.

    Args:
        results: of full fine-tuning and subspace runs, in any order, of any protocol.
        majority: metric of the best constant predictor.
        target_fraction: the 0.9 of d90, in (0, 1].
        criterion_of: what that is a fraction of: `metric` or `gain` (`d90.search.criteria`).
        evaluation_size: number of evaluation examples, when the metric is an accuracy: the
            binomial standard error is where the prior of the noise lies.
        dims: that the protocol may try, whose ends are those of the curve; by default those tried.
        D: number of parameters of the model, the largest d that there is; without it, no study is
            `optimization-limited`.
        reference: what the best constant predictor is called.

    Raises:
        D90Error: target_fraction or evaluation_size is out of its range.

    Source: Aghajanyan et al. 2021, section 3; the model and the names of the statuses are ours.
    """
    _check(target_fraction, evaluation_size)
    check_criterion_of(criterion_of)
    results = list(results)
    points = curve(results)
    full = full_metric(results)
    threshold = None
    if full is not None:
        threshold = score_threshold(
            full, floor=majority, target_fraction=target_fraction, criterion_of=criterion_of
        )
    warnings = [*_run_warnings(results, points), *_seed_warnings(points)]
    warnings += _monotone_warnings(points, evaluation_size)
    passing = None if threshold is None else _first_passing(points, threshold)
    answer = Estimate(
        status="ok",
        first_passing_d=passing,
        full_metric=full,
        threshold=threshold,
        best={p.d: p.best for p in points},
    )
    status, reason = _no_posterior(points, full, threshold, majority, results, reference)
    if status != "ok" or threshold is None:
        return replace(answer, status=status, reason=reason, warnings=tuple(warnings))
    warnings += _threshold_warnings(threshold, majority, evaluation_size, reference)
    dims = _tried(results) if dims is None else sorted(dims)
    posterior = posterior_of(
        results,
        dims,
        majority=majority,
        target_fraction=target_fraction,
        criterion_of=criterion_of,
        evaluation_size=evaluation_size,
    )
    answer = replace(answer, band=_band(posterior), warnings=tuple(warnings))
    status = posterior.answer.status
    unstable = _unstable(points, results, threshold, status)
    if unstable:
        return replace(answer, status="unstable", reason=unstable)
    limited = _optimization_limited(points, dims, threshold, status, D)
    if limited:
        return replace(answer, status="optimization-limited", reason=limited)
    answer = replace(answer, interval=_interval(posterior.answer, results))
    if posterior.answer.median is None:
        reason = _beyond(posterior.answer, dims, points, threshold)
        return replace(answer, status=status, reason=reason)
    d90 = round(posterior.answer.median)
    warnings += _answer_warnings(points, d90, passing, threshold)
    return replace(answer, d90=d90, warnings=tuple(warnings))


def posterior_of(
    results: Sequence[TrialResult],
    dims: Sequence[int],
    *,
    majority: float,
    target_fraction: float,
    criterion_of: str,
    evaluation_size: int | None,
) -> Posterior:
    """The posterior of the curve between the smallest and the largest of some dimensions.

    Args:
        results: with a full fine-tuning run and a subspace run that trained.
        dims: ascending.
        majority, target_fraction, criterion_of, evaluation_size: as in `estimate`.
    """
    rates = sorted({r.trial.learning_rate for r in results if not r.trial.is_full})
    model = CurveModel(
        records(runs_of(results)),
        majority,
        evaluation_size or DEFAULT_EVALUATION_SIZE,
        tuple(rates),
        ladder(dims[0], dims[-1]),
        target_fraction,
        criterion_of,
    )
    return sample_posterior(model, particles=ANSWER_PARTICLES, seed=ANSWER_SEED)


def _check(target_fraction: float, evaluation_size: int | None) -> None:
    if not 0 < target_fraction <= 1:
        raise D90Error(
            f"target_fraction is {target_fraction}: expected a number above 0 and at most 1 "
            "(the paper's is 0.9)."
        )
    if evaluation_size is not None and evaluation_size < 1:
        raise D90Error(f"evaluation_size is {evaluation_size}: expected at least one example.")


def _no_posterior(
    points: Sequence[Point],
    full: float | None,
    threshold: float | None,
    majority: float,
    results: Sequence[TrialResult],
    reference: str,
) -> tuple[EstimateStatus, str]:
    """Why there is nothing to estimate, and the reason in one line; `ok` if there is."""
    if full is None or threshold is None:
        tried = sum(r.trial.is_full for r in results)
        what = f"none of {tried} full fine-tuning runs trained" if tried else "there is none yet"
        return "undefined-baseline", f"no full fine-tuning baseline: {what}"
    if passes(majority, full):
        return "undefined-baseline", (
            f"full fine-tuning reaches {full:.4f}, which does not beat the {reference} "
            f"({majority:.4f})"
        )
    if passes(majority, threshold) and reference == PRETRAINED_MODEL:
        return "already-satisfied", (
            f"the {reference} itself ({majority:.4f}) reaches the threshold {threshold:.4f}: "
            "d90 = 0"
        )
    if passes(majority, threshold):
        return "trivial-threshold", (
            f"the threshold {threshold:.4f} is not above the {reference} ({majority:.4f}), which "
            "would pass"
        )
    if not points:
        tried = sum(not r.trial.is_full for r in results)
        what = f"none of {tried} subspace runs trained" if tried else "no subspace run yet"
        return "unstable", what
    return "ok", ""


def _unstable(
    points: Sequence[Point], results: Sequence[TrialResult], threshold: float, status: str
) -> str:
    """Why the posterior's answer rests on runs that did not train, in one line; empty if not."""
    if any(p.passes(threshold) for p in points):
        return ""
    largest = sorted(seeds_tried(results))[-2:]
    if len(largest) == 2 and all(d > points[-1].d for d in largest):
        return (
            f"no run trained at the two largest d tried, {_format_dims(largest)}, and no smaller d "
            "passes: give other learning rates, or a smaller max_dim"
        )
    lucky = [p.d for p in points if passes(p.best, threshold)]
    if lucky and status != "above-maximum":
        return (
            f"only d = {_format_dims(lucky)} reaches {threshold:.4f}, and no more than half of the "
            "seeds trained there: give more seeds or other learning rates"
        )
    return ""


def _optimization_limited(
    points: Sequence[Point], dims: Sequence[int], threshold: float, status: str, D: int | None
) -> str:
    """Why a miss says nothing about d, in one line; empty if it does."""
    top = points[-1].d
    if status != "above-maximum" or D is None or (2 * top <= D and dims[-1] < D):
        return ""
    return (
        f"no d up to {dims[-1]:,} of D = {D:,} reaches {threshold:.4f} (tried up to {top:,}): what "
        "limits the runs is the optimization, not d; train longer, or give other learning rates"
    )


def _beyond(answer: Answer, dims: Sequence[int], points: Sequence[Point], threshold: float) -> str:
    """Why the posterior has no d90, in one line; empty if it has."""
    if answer.status == "above-maximum":
        top = max(points, key=lambda p: p.best)
        return (
            f"no d up to {dims[-1]:,} reaches {threshold:.4f} (probability {answer.above:.2f}; "
            f"best: {top.best:.4f} at d = {top.d:,})"
        )
    if answer.status == "at-minimum":
        return (
            f"the smallest d, {dims[0]:,}, already reaches {threshold:.4f} (probability "
            f"{answer.below:.2f}): d90 <= {dims[0]:,}, an upper bound only; try smaller d"
        )
    return ""


def _first_passing(points: Sequence[Point], threshold: float) -> int | None:
    return next((p.d for p in points if p.passes(threshold)), None)


def _interval(answer: Answer, results: Sequence[TrialResult]) -> Interval:
    """The posterior's interval, in whole numbers.

    Where it has no d that was tried, the model alone says where in that gap the crossing is: then
    it is widened to the gap.
    """
    low, high = answer.interval
    if low is not None and high is not None:
        dims = _tried(results)
        if not any(low <= d <= high for d in dims):
            low = max((d for d in dims if d < low), default=low)
            high = min((d for d in dims if d > high), default=high)
    return (
        None if low is None else math.floor(low),
        None if high is None else math.ceil(high),
    )


def _band(posterior: Posterior) -> tuple[BandPoint, ...]:
    columns = posterior.band.T.tolist()
    return tuple(
        BandPoint(d, *column) for d, column in zip(posterior.model.dims, columns, strict=True)
    )


def _tried(results: Sequence[TrialResult]) -> list[int]:
    """Every d tried, ascending."""
    return sorted({r.trial.d for r in results if r.trial.d is not None})


def _threshold_warnings(
    threshold: float, majority: float, evaluation_size: int | None, reference: str
) -> list[str]:
    """A threshold that the noise of the evaluation hardly tells from a constant predictor."""
    if evaluation_size is None:
        return []
    error = math.sqrt(majority * (1 - majority) / evaluation_size)
    if threshold - majority >= 2 * error:
        return []
    return [
        f"weak-threshold: {threshold:.4f} is {(threshold - majority) / error:.1f} standard errors "
        f"of {evaluation_size:,} examples above the {reference} ({majority:.4f})"
    ]


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
    """Dimensions at which some seed trained, and another was tried in vain."""
    unstable = [p.d for p in points if not p.is_stable]
    short = [p.d for p in points if p.is_stable and len(p.by_seed) < p.seeds_tried]
    warnings = []
    if unstable:
        warnings.append(
            f"unstable at d = {_format_dims(unstable)}: no more than half of the seeds trained"
        )
    if short:
        warnings.append(f"not every seed trained at d = {_format_dims(short)}")
    return warnings


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


def _answer_warnings(
    points: Sequence[Point], d90: int, passing: int | None, threshold: float
) -> list[str]:
    """Where the dimensions that were tried, or the paper's definition, say something else."""
    warnings = []
    below = [p.d for p in points if p.d <= d90]
    above = [p.d for p in points if p.d >= d90]
    if not below:
        warnings.append(f"no run trained below d90 = {d90:,}: d90 may be smaller")
    elif above and above[0] / below[-1] > WIDE_GAP:
        warnings.append(
            f"coarse: d90 lies between {below[-1]:,} and {above[0]:,}, with no d tried between"
        )
    if passing is None:
        warnings.append("no d tried passes: the model of the curve alone puts d90 between them")
    elif max(passing / d90, d90 / passing) > DISAGREEMENT:
        warnings.append(f"the smallest d tried that passes is {passing:,}, far from {d90:,}")
    later = [p.d for p in points if passing and p.d > passing and not p.passes(threshold)]
    if later:
        warnings.append(
            f"d = {_format_dims(later)} does not reach the threshold, above the first that does, "
            f"{passing:,}"
        )
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
