"""How figures draw a d90: a point with its interval, and arrows where it is open.

A study that says only that d90 lies beyond an end of its range of d is a hollow point at that end,
with an arrow.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.path import Path

from d90.report import wording
from d90.report.plotting import INK
from d90.search.posterior import LEVEL
from d90.search.summary import Summary

CAPTION = (
    f"Bars are {LEVEL:.0%} intervals, an arrow is an open end. A hollow point at the end of a "
    "study's range of d says that d90 lies beyond it."
)

ARROW = ((0.0, 0.0), (0.0, 1.0), (-0.3, 0.6), (0.0, 1.0), (0.3, 0.6))
"""Upward, from the point that it starts at."""

ARROW_SIZE = 18
"""Of the marker, in points: the arrow is half as long."""

ARROW_STYLE = {"markersize": ARROW_SIZE, "markerfacecolor": "none", "markeredgewidth": 0.9}


@dataclass(frozen=True)
class ErrorBar:
    """What a figure shows of a study's d90.

    Attributes:
        value: d90; of a censored study, the end of its range of d that d90 lies beyond.
        low, high: ends of the bar; an open interval ends where the range of d does.
        opens_down, opens_up: whether an arrow says that d90 may lie beyond that end.
        is_censored: whether the study says no more than that d90 is beyond an end.
    """

    value: int
    low: int
    high: int
    opens_down: bool = False
    opens_up: bool = False
    is_censored: bool = False


def error_bar(summary: Summary) -> ErrorBar | None:
    """The error bar of a study; None if it says nothing of d90."""
    dims = wording.dim_range(summary)
    if dims is None or (summary.d90 is None and wording.one_sided(summary) is None):
        return None
    value = summary.d90
    if value is None:
        value = dims[1] if summary.status == "above-maximum" else dims[0]
    low, high = (value, value) if summary.interval is None else summary.interval
    return ErrorBar(
        value,
        min(dims[0] if low is None else low, value),
        max(dims[1] if high is None else high, value),
        opens_down=low is None or summary.status == "at-minimum",
        opens_up=high is None or summary.status == "above-maximum",
        is_censored=summary.d90 is None,
    )


def draw_error_bar(
    axes: Axes,
    bar: ErrorBar,
    at: float,
    *,
    along: Literal["x", "y"],
    color: str,
    marker: str = "o",
    size: float = 4.5,
    edge: str | None = None,
) -> None:
    """Draw the point, its bar and its arrows.

    Args:
        axes: where.
        bar: what.
        at: position on the other axis.
        along: the axis that d90 is on.
        color, marker, size: of the point, size in points.
        edge: color of the point's edge; `color` if None.
    """

    def plot(*d: int, **style: object) -> None:
        other = [at] * len(d)
        axes.plot(*((d, other) if along == "x" else (other, d)), color=color, **style)  # type: ignore[arg-type]

    if bar.low < bar.high:
        plot(bar.low, bar.high, linewidth=0.9, zorder=2.5)
    cap = "|" if along == "x" else "_"
    turns = 3 if along == "x" else 0
    for end, is_open, turn in (
        (bar.low, bar.opens_down, turns + 2),
        (bar.high, bar.opens_up, turns),
    ):
        if is_open:
            plot(end, marker=_arrow(turn), linestyle="none", clip_on=False, **ARROW_STYLE)
        elif end != bar.value:
            plot(end, marker=cap, markersize=4, linestyle="none", zorder=2.5)
    plot(
        bar.value,
        marker=marker,
        markersize=size,
        markerfacecolor="white" if bar.is_censored else color,
        markeredgecolor=edge or color,
        linestyle="none",
        zorder=3,
    )


def error_bar_legend(bars: Iterable[ErrorBar | None]) -> list[Line2D]:
    """Legend entries of the bars and arrows that are drawn."""
    drawn = [bar for bar in bars if bar is not None]
    handles = []
    if any(bar.low < bar.high for bar in drawn):
        handles.append(Line2D([], [], color=INK, linewidth=0.9, label=f"{LEVEL:.0%} interval"))
    if any(bar.opens_down or bar.opens_up for bar in drawn):
        handles.append(
            Line2D(
                [],
                [],
                color=INK,
                linestyle="none",
                label="beyond the range of d",
                marker=_arrow(3),
                **{**ARROW_STYLE, "markersize": 14},  # type: ignore[arg-type]
            )
        )
    return handles


def _arrow(quarters: int) -> Path:
    """The arrow, turned to the left so many times."""
    vertices = list(ARROW)
    for _ in range(quarters % 4):
        vertices = [(-y, x) for x, y in vertices]
    return Path(vertices)
