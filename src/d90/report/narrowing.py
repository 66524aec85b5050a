"""How d90's interval narrowed while a study ran: a figure and a table.

Sizes are in inches.
"""

from __future__ import annotations

from matplotlib.figure import Figure as Drawing
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from d90.report import wording
from d90.report.curve import THRESHOLD, WIDTH
from d90.report.document import Figure, Table, Value, format_dimension, format_rate
from d90.report.error_bar import ErrorBar, draw_error_bar, error_bar_legend
from d90.report.plotting import INK, log_axis
from d90.search.history import HistoryPoint
from d90.search.summary import Summary

HEIGHT = 2.1
TERMINAL_ROWS = 8


def narrowing_figure(summary: Summary) -> Figure:
    """d90 and its interval after each run, and the d of each run."""
    last = summary.history[-1]
    span = wording.format_interval(last.low, last.high)
    return Figure(
        name="narrowing",
        caption=(
            f"{summary.quantity} and its 95% interval after each run (points and bars; an arrow is "
            "an open end), and the d of each run (rings; full fine-tuning has none). The sample of "
            "the posterior is the one that chose the runs; the answer is of a larger one."
        ),
        alt_text=(
            f"{summary.quantity} after each of {len(summary.history)} runs; at the end {span}."
        ),
        draw=lambda: _draw(summary),
    )


def narrowing_table(summary: Summary) -> Table:
    """One row per run."""
    rows: tuple[tuple[Value, ...], ...] = tuple(
        (number, p.d, p.learning_rate, p.d90, p.low, p.high)
        for number, p in zip(_numbers(summary), summary.history, strict=True)
    )
    return Table(
        name=None,
        title="Interval after each run",
        columns=("run", "d", "learning_rate", "d90", "low", "high"),
        rows=rows,
        terminal_rows=TERMINAL_ROWS,
        headers={"learning_rate": "learning rate"},
        formats={"d": format_dimension, "learning_rate": format_rate},
        intervals={"d90": ("low", "high")},
    )


def _numbers(summary: Summary) -> range:
    """Of the runs, counted from the first of the study; the history has the last ones."""
    runs = len(summary.trials)
    return range(runs - len(summary.history) + 1, runs + 1)


def _draw(summary: Summary) -> Drawing:
    figure = Drawing(figsize=(WIDTH, HEIGHT))
    axes = figure.add_axes((0.16, 0.36, 0.81, 0.6))
    runs = _numbers(summary)
    bars = [_bar(summary, point) for point in summary.history]
    for run, bar in zip(runs, bars, strict=True):
        if bar is not None:
            draw_error_bar(axes, bar, run, along="y", color=THRESHOLD, size=3)
    tried = [(run, p.d) for run, p in zip(runs, summary.history, strict=True) if p.d is not None]
    ring = {"linestyle": "none", "marker": "o", "markerfacecolor": "none", "markersize": 4.5}
    if tried:
        axes.plot(*zip(*tried, strict=True), color=INK, markeredgewidth=0.6, zorder=4, **ring)  # type: ignore[arg-type]
    axes.margins(y=0.1)
    log_axis(axes, "y", (1,))
    axes.set_xlabel("run")
    axes.set_ylabel("d")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend = [Line2D([], [], color=INK, label="d of the run", **ring)]  # type: ignore[arg-type]
    figure.legend(
        handles=legend + error_bar_legend(bars),
        loc="lower center",
        ncols=3,
        frameon=False,
        columnspacing=1,
        handletextpad=0.4,
    )
    return figure


def _bar(summary: Summary, point: HistoryPoint) -> ErrorBar | None:
    """The bar of a posterior, whose open end is that of the ladder; None if both are open."""
    if point.low is None and point.high is None:
        return None
    smallest, largest = wording.dim_range(summary) or (point.low, point.high)
    low, high = point.low or smallest or 1, point.high or largest or 1
    value = point.d90 or (high if point.high is None else low)
    return ErrorBar(
        value,
        min(low, value),
        max(high, value),
        opens_down=point.low is None,
        opens_up=point.high is None,
        is_censored=point.d90 is None,
    )
