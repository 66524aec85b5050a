"""What a run is scored by, and the score that counts as reaching full fine-tuning.

A run is scored by the metric of its task, or by a skill score of its probabilities. A skill is 0 at
the loss L_M of the best constant prediction, the shares of the classes, and 1 at a loss of 0::

    skill = 1 - L / L_M,   L the mean Brier score or log-loss

so that it rises like a metric, with a floor of 0, and the fraction q of its gain is reached where
``L <= L_M - q (L_M - L_full)``.

This module imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from d90.errors import D90Error, unknown_name
from d90.search.trial import TrialResult

SMOOTH = ("brier", "nll")
"""The criteria that are skill scores: they move less from run to run than the metric does."""

CRITERIA_OF = ("metric", "gain")
"""What d90 is 0.9 of: the metric of full fine-tuning (the paper's), or its gain over the floor."""

MAJORITY_CLASS = "majority class"
"""The reference of classifiers."""

PRETRAINED_MODEL = "pretrained model"
"""The reference of scores that rise from that of the model at z = 0, not from a constant's."""

Score = TypeVar("Score", float, NDArray[np.float64])


def short_reference(reference: str) -> str:
    """What a floor is called, in one word.

    >>> short_reference("majority class"), short_reference(PRETRAINED_MODEL)
    ('majority', 'initial')
    """
    return "initial" if reference == PRETRAINED_MODEL else reference.partition(" ")[0]


def check_criterion(criterion: str | None, metric: str, smooth: Sequence[str] = SMOOTH) -> str:
    """The criterion of a study on a task with this metric, which is the default.

    Args:
        criterion: the metric, or one of `smooth`.
        metric: of the task.
        smooth: those of `SMOOTH` that the task's kind has.

    Raises:
        D90Error: neither.
    """
    if criterion is None:
        return metric
    if criterion not in (metric, *smooth):
        expected = f"{metric}, {' or '.join(smooth)}" if smooth else f"{metric} alone"
        raise D90Error(
            f"criterion {criterion!r:.40}: the metric of this task is '{metric}', so expected "
            f"{expected}."
        )
    return criterion


def check_criterion_of(criterion_of: str) -> None:
    """Raises: D90Error: not one of `CRITERIA_OF`."""
    if criterion_of not in CRITERIA_OF:
        raise unknown_name("criterion_of", criterion_of, CRITERIA_OF)


def score_floor(criterion: str, majority: float) -> float:
    """The score of the best constant prediction, whose metric is `majority`."""
    return 0.0 if criterion in SMOOTH else majority


def score_threshold(
    full: Score, *, floor: float, target_fraction: float, criterion_of: str
) -> Score:
    """The score that passes: `origin + target_fraction * (full - origin)`.

    Args:
        full: the score of full fine-tuning.
        floor: the score of the best constant prediction, the origin of a `gain`; else it is 0.
        target_fraction: the 0.9 of d90.
        criterion_of: one of `CRITERIA_OF`.

    >>> score_threshold(0.8, floor=0.5, target_fraction=0.9, criterion_of="metric")
    0.7200000000000001
    >>> score_threshold(0.8, floor=0.5, target_fraction=0.9, criterion_of="gain")
    0.77
    """
    origin = floor if criterion_of == "gain" else 0.0
    return origin + target_fraction * (full - origin)


def collapse_floor(majority: float, reference: str) -> float:
    """The metric that a run in a subspace has to exceed, or else it counts as collapsed.

    The curve rises from the floor, so a run below it says nothing of the curve but that it did not
    train. A classifier's may fall below the majority class by noise alone: it has collapsed where
    it predicts a single class, which its status says.
    """
    return -math.inf if reference == MAJORITY_CLASS else majority


def scored(
    results: Iterable[TrialResult], criterion: str, floor: float = -math.inf
) -> list[TrialResult]:
    """The results with their scores by a criterion as their `metric`.

    By the metric itself, a run in a subspace that is not above `floor` (`collapse_floor`) counts as
    collapsed.

    Under a smooth criterion, a run counts as collapsed if its skill is not above 0 at its best
    epoch, and only then: one that predicts a single class, or has no more tokens right than the
    pretrained model, may have learned probabilities. One whose skills were not measured has no
    score.
    """
    if criterion not in SMOOTH:
        return [_above(result, floor) for result in results]
    return [_scored(result, criterion) for result in results]


def has_score(result: TrialResult, criterion: str) -> bool:
    """Whether the result is all that a study by this criterion needs of its trial."""
    return criterion not in SMOOTH or criterion in result.skills or result.status != "ok"


def quantity_name(target_fraction: float, criterion: str, metric: str, criterion_of: str) -> str:
    """`d90` is the paper's; by any other criterion, its name is in brackets.

    >>> quantity_name(0.9, "accuracy", "accuracy", "metric")
    'd90'
    >>> quantity_name(0.9, "accuracy", "accuracy", "gain")
    'd90[accuracy gain]'
    >>> quantity_name(0.8, "brier", "accuracy", "metric")
    'd80[brier]'
    """
    name = f"d{100 * target_fraction:g}"
    if criterion in SMOOTH:
        return f"{name}[{criterion}]"
    return f"{name}[{metric} gain]" if criterion_of == "gain" else name


def _above(result: TrialResult, floor: float) -> TrialResult:
    metric = result.metric
    if result.status != "ok" or result.trial.is_full or metric is None or not metric <= floor:
        return result
    message = f"its best score, {metric:.4g}, is not above {floor:.4g}, that of no training"
    return replace(result, status="collapsed", message=message)


def _scored(result: TrialResult, criterion: str) -> TrialResult:
    skill = result.skills.get(criterion)
    if result.status not in ("ok", "collapsed") or skill is None:
        return replace(result, metric=None, train_metric=None)
    if skill <= 0:
        message = f"its best {criterion} skill, {skill:.3g}, is not above 0"
        return replace(result, status="collapsed", metric=None, train_metric=None, message=message)
    return replace(result, status="ok", metric=skill, train_metric=None, message="")
