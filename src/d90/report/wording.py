"""The answer of a study in words: the same in the terminal, on the page and in figures."""

from __future__ import annotations

import math
from collections.abc import Iterable

from d90.search.criteria import PRETRAINED_MODEL, SMOOTH, short_reference
from d90.search.posterior import LEVEL
from d90.search.summary import Summary

ALREADY_SATISFIED = "already-satisfied"


def quantity(summaries: Iterable[Summary]) -> str:
    """What the studies measure: `d90`, or `d90[brier]`; each once where they differ."""
    return ", ".join(dict.fromkeys(summary.quantity for summary in summaries)) or "d90"


def floor_name(summary: Summary) -> str:
    """What reaches the floor, in one word: `majority`, a `constant` prediction, or `initial`."""
    if summary.criterion in SMOOTH:
        return short_reference(PRETRAINED_MODEL) if summary.initial else "constant"
    return short_reference(summary.reference)


ACCURACIES = (
    "The best epoch and learning rate were chosen on the evaluation split that is reported, so "
    "every metric is slightly too high, full fine-tuning's too. All runs share its examples, so "
    "their binomial standard error is not the error between runs: the spread over seeds is."
)
"""What to know of every metric of a report: once in each."""


OWN_SCORES = (
    "The best learning rate was chosen by the score that is reported, so every score is slightly "
    "too high, full fine-tuning's too."
)
"""The same of the scores of a user's own training."""


def selection(summary: Summary) -> str:
    """How what is reported was chosen."""
    return OWN_SCORES if summary.objective else ACCURACIES


def format_metric(value: float | None) -> str:
    """A metric to three decimals; a dash where it is unknown.

    >>> format_metric(0.80147), format_metric(None)
    ('0.801', '–')
    """
    return "–" if value is None or math.isnan(value) else f"{value:.3f}"


def percent(summary: Summary) -> str:
    """The target as a fraction of the full metric: `90%`."""
    return f"{100 * summary.target_fraction:g}%"


def format_d(value: float | None) -> str:
    """A dimension with thousands separators; None is full fine-tuning.

    >>> format_d(1203), format_d(None)
    ('1,203', 'full')
    """
    return "full" if value is None else f"{round(value):,}"


def interval(summary: Summary) -> str:
    """The interval of d90, its open ends in words; empty if there is none."""
    return "" if summary.interval is None else format_interval(*summary.interval)


def format_interval(low: float | None, high: float | None, *, joint: str = " to ") -> str:
    """An interval of d; an end that is None is open.

    >>> format_interval(105, 1253), format_interval(105, 253, joint="-"), format_interval(None, 72)
    ('105 to 1,253', '105-253', '72 or less')
    """
    if low is None and high is None:
        return "any d"
    if low is None:
        return f"{format_d(high)} or less"
    if high is None:
        return f"{format_d(low)} or more"
    return f"{format_d(low)}{joint}{format_d(high)}"


def answer(summary: Summary) -> str:
    """The answer in a few words.

    `d90 = 203`, `d90 > 10,000 (above-maximum)`, `d90 ≤ 10 (at-minimum)`,
    `d90 = 0 (already-satisfied)`, `no d90 (trivial-threshold)`.
    """
    if summary.status == ALREADY_SATISFIED:
        return f"{summary.quantity} = 0 ({summary.status})"
    if summary.d90 is not None:
        return f"{summary.quantity} = {format_d(summary.d90)}"
    bound = one_sided(summary)
    if bound is not None:
        return f"{summary.quantity} {bound} ({summary.status})"
    return f"no {summary.quantity} ({summary.status})"


def cell(summary: Summary) -> str:
    """The answer in a cell of a table.

    `203`, `203 (100-400)`, `> 10,000 (above-maximum)`, `0 (already-satisfied)`, or
    `trivial-threshold`.
    """
    if summary.status == ALREADY_SATISFIED:
        return f"0 ({summary.status})"
    if summary.d90 is not None:
        d90 = format_d(summary.d90)
        if summary.interval is None:
            return d90
        return f"{d90} ({format_interval(*summary.interval, joint='-')})"
    bound = one_sided(summary)
    return summary.status if bound is None else f"{bound} ({summary.status})"


def one_sided(summary: Summary) -> str | None:
    """What a study without a d90 says of it: `> 10,000` or `≤ 10`; None if nothing."""
    dims = dim_range(summary)
    if dims and summary.status == "above-maximum":
        return f"> {format_d(dims[1])}"
    if dims and summary.status == "at-minimum":
        return f"≤ {format_d(dims[0])}"
    return None


def dim_range(summary: Summary) -> tuple[int, int] | None:
    """Smallest and largest d that the study covers; None if it has none."""
    dims = [point.d for point in summary.band]
    dims = dims or [result.trial.d for result in summary.trials if result.trial.d is not None]
    return (min(dims), max(dims)) if dims else None


def sentence(summary: Summary) -> str:
    """What the answer means, or why there is none, with the values that it is based on."""
    if summary.d90 is None:
        reason = summary.reason or f"the study ended as {summary.status}"
        return f"{reason[0].upper()}{reason[1:].rstrip('.')}."
    is_gain = summary.criterion_of == "gain"
    gain = f"gain from {format_metric(summary.floor)} to the " if is_gain else ""
    instead = "" if summary.D is None else f" instead of {summary.D:,}"
    text = (
        f"Training {format_d(summary.d90)} parameters{instead} reaches "
        f"{summary.score_name} {format_metric(summary.threshold)}: {percent(summary)} of the "
        f"{gain}{format_metric(summary.full_metric)} of full fine-tuning."
    )
    if summary.interval is not None:
        text += f" {LEVEL:.0%} interval: {interval(summary)}."
    passing = summary.first_passing_d
    return (
        f"{text} Smallest d tried that passes: {'none' if passing is None else format_d(passing)}."
    )
