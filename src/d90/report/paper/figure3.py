"""The paper's Figure 3: d90 against the number of parameters.

Sizes are in inches.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.lines import Line2D

from d90.report.document import Document, Figure, Table, Value
from d90.report.plotting import INK, colors, log_axis, markers
from d90.report.study_table import (
    correlation_table,
    failure_warnings,
    missing_d90_warnings,
    short_name,
    short_names,
    studies_table,
    task_and_method,
)
from d90.search.correlation import Correlation, spearman
from d90.search.summary import Summary

WIDTH, HEIGHT = 4.6, 3.6
LEGEND_COLUMNS, LEGEND_ROW = 2, 0.055
QUANTITY = "d90 and D"


def scaling(
    summaries: Sequence[Summary],
    failures: Mapping[str, str] | None = None,
    *,
    links: tuple[tuple[str, str], ...] = (),
    command: str = "",
) -> Document:
    """Figure 3: the studies that have a d90, and a correlation for each task and method."""
    failures = failures or {}
    answered = [summary for summary in summaries if summary.d90 is not None]
    groups = dict.fromkeys(map(task_and_method, answered))
    correlations = [(QUANTITY, group, _correlation(answered, group)) for group in groups]
    return Document(
        title="Figure 3: d90 against the number of parameters",
        answer="; ".join(f"{group}: {rho or 'no correlation'}" for _, group, rho in correlations)
        or "No study has a d90.",
        sentences=("The paper finds that larger models have a smaller d90: a negative rho.",),
        warnings=(*failure_warnings(failures), *missing_d90_warnings(summaries)),
        tables=(
            _table(answered),
            correlation_table(correlations),
            studies_table(summaries, failures),
        ),
        figures=(_figure(answered),) if answered else (),
        links=links,
        command=command,
    )


def _correlation(answered: Sequence[Summary], group: str) -> Correlation | None:
    members = [s for s in answered if task_and_method(s) == group]
    return spearman([s.D for s in members], [s.d90 or 0 for s in members])


def _table(answered: Sequence[Summary]) -> Table:
    names = short_names(summary.model for summary in answered)
    rows = tuple(
        _row(summary, names[summary.model])
        for summary in sorted(answered, key=lambda s: (s.task, s.D))
    )
    columns = ("task", "model", "family", "method", "D", "d90", "low", "high")
    return Table("figure3", "d90 by number of parameters", columns, rows)


def _row(summary: Summary, name: str) -> tuple[Value, ...]:
    low, high = summary.interval or (None, None)
    task = short_name(summary.task)
    return (task, name, summary.family, summary.subspace.method, summary.D, summary.d90, low, high)


def _figure(answered: Sequence[Summary]) -> Figure:
    values = "; ".join(f"{short_name(s.model)}: D = {s.D:,}, d90 = {s.d90:,}" for s in answered)
    return Figure(
        name="figure3",
        caption=(
            "d90 against the number of parameters D, one point per study; the color is the family "
            "of the model, the shape the task. Bars are intervals over seeds."
        ),
        alt_text=f"d90 against D. {values}.",
        draw=lambda: _draw(answered),
    )


def _draw(answered: Sequence[Summary]) -> Drawing:
    figure = Drawing(figsize=(WIDTH, HEIGHT))
    family_colors = colors(_family(summary) for summary in answered)
    group_markers = markers(task_and_method(summary) for summary in answered)
    legend_rows = math.ceil((len(family_colors) + len(group_markers)) / LEGEND_COLUMNS)
    bottom = 0.14 + LEGEND_ROW * legend_rows
    axes = figure.add_axes((0.12, bottom, 0.84, 0.96 - bottom))
    for summary in answered:
        marker = group_markers[task_and_method(summary)]
        color = family_colors[_family(summary)]
        axes.plot([summary.D], [summary.d90 or 0], marker, color=color, markersize=4.5, alpha=0.9)
        low, high = summary.interval or (None, None)
        if low is not None and high is not None:
            axes.plot([summary.D, summary.D], [low, high], color=color, linewidth=0.8)
    _name_models(axes, answered)
    axes.margins(x=0.12, y=0.14)
    log_axis(axes, "x", (1, 3))
    log_axis(axes, "y", (1, 3))
    axes.set_xlabel("D (parameters)")
    axes.set_ylabel("d90")
    handles = [
        Line2D([], [], color=c, linewidth=3, label=name) for name, c in family_colors.items()
    ]
    handles += [
        Line2D([], [], marker=m, linestyle="none", color=INK, markersize=4, label=group)
        for group, m in group_markers.items()
    ]
    # Below the plot, where there is room for the name of a task.
    figure.legend(handles=handles, loc="lower center", ncols=LEGEND_COLUMNS, frameon=False)
    return figure


def _name_models(axes: Axes, answered: Sequence[Summary]) -> None:
    """The name of each model, above the highest of its points."""
    names = short_names(summary.model for summary in answered)
    highest = {name: max(s.d90 or 0 for s in answered if s.model == name) for name in names}
    for summary in answered:
        if summary.d90 == highest[summary.model]:
            axes.annotate(
                names[summary.model],
                (summary.D, summary.d90),
                xytext=(0, 4),
                textcoords="offset points",
                fontsize=6,
                horizontalalignment="center",
            )


def _family(summary: Summary) -> str:
    return summary.family or short_name(summary.model)
