"""The answer of a study in words, the same in the terminal, on the page and beside the curve."""

from __future__ import annotations

import math

from d90.search.estimate import LEVEL
from d90.search.summary import Summary


def name(summary: Summary) -> str:
    """The quantity's name: d90 at target_fraction 0.9, d80 at 0.8.

    >>> from types import SimpleNamespace
    >>> name(SimpleNamespace(target_fraction=0.8))
    'd80'
    """
    return f"d{100 * summary.target_fraction:g}"


def number(value: float | None) -> str:
    """A metric to three decimals; a dash where it is unknown.

    >>> number(0.80147), number(None)
    ('0.801', '–')
    """
    return "–" if value is None or math.isnan(value) else f"{value:.3f}"


def percent(summary: Summary) -> str:
    """The share of the full metric that is asked for: `90%`."""
    return f"{100 * summary.target_fraction:g}%"


def dimension(value: float | None) -> str:
    """A dimension, whole, with thousands marked; None is full fine-tuning.

    >>> dimension(1203), dimension(None)
    ('1,203', 'full')
    """
    return "full" if value is None else f"{round(value):,}"


def interval(summary: Summary) -> str:
    """The interval of d90 with its open ends in words; empty where there is none."""
    if summary.interval is None:
        return ""
    low, high = summary.interval
    if low is None and high is None:
        return "any d"
    if low is None:
        return f"{dimension(high)} or less"
    if high is None:
        return f"{dimension(low)} or more"
    return f"{dimension(low)} to {dimension(high)}"


def answer(summary: Summary) -> str:
    """The answer in a few words.

    `d90 = 203`, `d90 > 10,000 (above-maximum)`, `d90 ≤ 10 (at-minimum)`, or
    `no d90 (trivial-threshold)`.
    """
    if summary.d90 is not None:
        return f"{name(summary)} = {dimension(summary.d90)}"
    dims = [result.trial.d for result in summary.trials if result.trial.d is not None]
    if dims and summary.status == "above-maximum":
        return f"{name(summary)} > {dimension(max(dims))} ({summary.status})"
    if dims and summary.status == "at-minimum":
        return f"{name(summary)} ≤ {dimension(min(dims))} ({summary.status})"
    return f"no {name(summary)} ({summary.status})"


def sentence(summary: Summary) -> str:
    """What the answer means, or why there is none, with the numbers that it stands on."""
    if summary.d90 is None:
        reason = summary.reason or f"the study ended as {summary.status}"
        return f"{reason[0].upper()}{reason[1:].rstrip('.')}."
    text = (
        f"Training {dimension(summary.d90)} numbers instead of {summary.D:,} reaches "
        f"{summary.metric} {number(summary.threshold)}: {percent(summary)} of the "
        f"{number(summary.full_metric)} of full fine-tuning."
    )
    if summary.interval is None:
        return text
    return f"{text} {LEVEL:.0%} interval over projection seeds: {interval(summary)}."
