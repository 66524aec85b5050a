"""The paper's Figure 3: d90 against the number of parameters.

Sizes are in inches.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure as Drawing
from matplotlib.lines import Line2D

from d90.report import wording
from d90.report.document import Document, Figure, Table
from d90.report.plotting import colors, log_axis, markers
from d90.report.study_table import (
    cells_table,
    correlation_table,
    line,
    not_measured,
    short_name,
    short_names,
    without_d90,
)
from d90.search.correlation import Correlation, spearman
from d90.search.summary import Summary

WIDTH, HEIGHT = 4.6, 3.6
LEGEND_COLUMNS, LEGEND_ROW = 2, 0.055
NAME = "d90 with D"


def scaling(
    summaries: Sequence[Summary],
    failures: Mapping[str, str] | None = None,
    *,
    links: tuple[tuple[str, str], ...] = (),
    command: str = "",
) -> Document:
    """Figure 3: the studies that have a d90, and a correlation for each task."""
    failures = failures or {}
    placed = [summary for summary in summaries if summary.d90 is not None]
    found = [(NAME, name, _correlation(placed, name)) for name in dict.fromkeys(map(line, placed))]
    return Document(
        title="Figure 3: d90 against the number of parameters",
        answer="; ".join(f"{name}: {rho or 'no correlation'}" for _, name, rho in found)
        or "No study has a d90.",
        sentences=(
            "The paper finds that larger models have a smaller d90, which is a negative rho.",
        ),
        warnings=(*not_measured(failures), *without_d90(summaries)),
        tables=(_table(placed), correlation_table(found), cells_table(summaries, failures)),
        figures=(_figure(placed),) if placed else (),
        links=links,
        command=command,
    )


def _correlation(placed: Sequence[Summary], name: str) -> Correlation | None:
    points = [(s.D, s.d90) for s in placed if line(s) == name and s.d90 is not None]
    return spearman(*zip(*points, strict=True))


def _table(placed: Sequence[Summary]) -> Table:
    names = short_names(summary.model for summary in placed)
    rows = tuple(
        (short_name(s.task), names[s.model], s.family, s.method, s.D, s.d90, wording.interval(s))
        for s in sorted(placed, key=lambda s: (s.task, s.D))
    )
    columns = ("task", "model", "family", "method", "D", "d90", "interval")
    return Table("figure3", "d90 by number of parameters", columns, rows)


def _figure(placed: Sequence[Summary]) -> Figure:
    found = "; ".join(f"{short_name(s.model)}: D = {s.D:,}, d90 = {s.d90:,}" for s in placed)
    return Figure(
        name="figure3",
        caption=(
            "d90 against the number of parameters D, one point a study; color is the family of "
            "the model, shape the task. Bars are intervals over projection seeds."
        ),
        alt_text=f"d90 against D. {found}.",
        draw=lambda: _draw(placed),
    )


def _draw(placed: Sequence[Summary]) -> Drawing:
    figure = Drawing(figsize=(WIDTH, HEIGHT))
    shades = colors(_kind(summary) for summary in placed)
    shapes = markers(line(s) for s in placed)
    foot = 0.14 + LEGEND_ROW * math.ceil((len(shades) + len(shapes)) / LEGEND_COLUMNS)
    axes = figure.add_axes((0.12, foot, 0.84, 0.96 - foot))
    names = short_names(summary.model for summary in placed)
    for summary in placed:
        shape = shapes[line(summary)]
        color = shades[_kind(summary)]
        axes.plot([summary.D], [summary.d90 or 0], shape, color=color, markersize=4.5, alpha=0.9)
        low, high = summary.interval or (None, None)
        if low is not None and high is not None:
            axes.plot([summary.D, summary.D], [low, high], color=color, linewidth=0.8)
    highest = {name: max(s.d90 or 0 for s in placed if s.model == name) for name in names}
    for summary in placed:
        if summary.d90 == highest[summary.model]:
            axes.annotate(
                names[summary.model],
                (summary.D, summary.d90),
                xytext=(0, 4),
                textcoords="offset points",
                fontsize=6,
                horizontalalignment="center",
            )
    axes.margins(x=0.12, y=0.14)
    log_axis(axes, "x", (1, 3))
    log_axis(axes, "y", (1, 3))
    axes.set_xlabel("D (parameters)")
    axes.set_ylabel("d90")
    handles = [Line2D([], [], color=c, linewidth=3, label=kind) for kind, c in shades.items()]
    handles += [
        Line2D([], [], marker=m, linestyle="none", color="#222222", markersize=4, label=label)
        for label, m in shapes.items()
    ]
    # Below, where the name of a task has room.
    figure.legend(handles=handles, loc="lower center", ncols=LEGEND_COLUMNS, frameon=False)
    return figure


def _kind(summary: Summary) -> str:
    return summary.family or short_name(summary.model)
