"""How the display of a study shows its search: d90 so far, run by run, and why the next is next."""

from __future__ import annotations

import math
from collections.abc import Sequence

from d90.report.wording import format_d, format_interval
from d90.search.history import HistoryPoint
from d90.search.proposals import Proposal

BARS = "▁▂▃▄▅▆▇█"

MAX_BARS = 24
"""The last runs that the sparkline has, which leaves room in 40 columns."""


def d90_so_far(name: str, point: HistoryPoint) -> str:
    """The median and the interval; the interval alone where there is no median.

    >>> d90_so_far("d90", HistoryPoint(300, 0.008, 0, 464, 210, 1100))
    'd90 464 (210-1,100)'
    >>> d90_so_far("d90", HistoryPoint(300, 0.008, 0, None, 5000, None))
    'd90 5,000 or more'
    """
    span = format_interval(point.low, point.high, joint="-")
    return f"{name} {span}" if point.d90 is None else f"{name} {format_d(point.d90)} ({span})"


def sparkline(points: Sequence[HistoryPoint], widest: float) -> str:
    """The width of the interval after each run, in bars of ln ratio, and the last ratio.

    Args:
        points: one a run, at least one.
        widest: ratio of the ends of the ladder, the height of an open interval.

    >>> ends = [(10, None), (10, 1000), (20, 300), (50, 120)]
    >>> points = [HistoryPoint(100, 0.008, i, 70, *end) for i, end in enumerate(ends)]
    >>> sparkline(points, widest=1000)
    '█▆▄▂ x2.4'
    """
    bars = "".join(
        BARS[min(int(len(BARS) * _height(point.ratio, widest)), len(BARS) - 1)]
        for point in points[-MAX_BARS:]
    )
    last = points[-1].ratio
    return f"{bars} x{last:.1f}" if math.isfinite(last) else f"{bars} open"


def _height(ratio: float, widest: float) -> float:
    return 1.0 if not math.isfinite(ratio) else math.log(max(ratio, 1)) / math.log(max(widest, 2))


def why_next(name: str, proposals: Sequence[Proposal], *, is_wide: bool) -> str:
    """The first proposal with what it is for, and how many more there are; empty if there is none.

    >>> from d90.search.trial import Trial
    >>> proposals = [Proposal(Trial(464, 0.008, 0), 0.311), Proposal(Trial(None, 1e-4, 1), 0.02)]
    >>> why_next("d90", proposals[:1], is_wide=True)
    'next: d = 464 at 0.008: expected to take away 31% of the variance of ln d90'
    >>> why_next("d90", proposals, is_wide=False)
    'next: d = 464 at 0.008, -31% variance (1 more)'
    >>> why_next("d90", proposals[1:], is_wide=False)
    'next: repeat of the baseline at 0.0001, -2% variance'
    >>> why_next("d90", [Proposal(Trial(100000, 0.008, 4), None)], is_wide=True)
    'next: d = 100,000 at 0.008: d90 seems to lie beyond'
    """
    if not proposals:
        return ""
    (trial, reduction), *others = proposals
    what = f"d = {trial.d:,}" if trial.d is not None else "repeat of the baseline"
    why = (
        ": d90 seems to lie beyond"
        if reduction is None
        else f": expected to take away {reduction:.0%} of the variance of ln {name}"
        if is_wide
        else f", -{reduction:.0%} variance"
    )
    more = f" ({len(others)} more)" if others else ""
    return f"next: {what} at {trial.learning_rate:g}{why}{more}"
