"""The paper's Figure 3: d90 against the number of parameters.

Sizes are in inches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from d90.report import wording
from d90.report.document import Document, Figure, Table, Value
from d90.report.error_bar import ARROW_SIZE, CAPTION, draw_error_bar, error_bar, error_bar_legend
from d90.report.plotting import (
    axes_over_legend,
    color_handles,
    colors,
    log_axis,
    marker_handles,
    markers,
)
from d90.report.study_table import (
    D90_COLUMNS,
    D90_FORMAT,
    Claim,
    correlate,
    correlation_table,
    d90_values,
    failure_warnings,
    missing_d90_warnings,
    short_name,
    short_names,
    studies_table,
    task_and_method,
)
from d90.search.summary import Summary

WIDTH, HEIGHT = 4.6, 3.6
LEGEND_COLUMNS, LEGEND_ROW = 2, 0.055


def scaling(
    summaries: Sequence[Summary],
    failures: Mapping[str, str] | None = None,
    *,
    links: tuple[tuple[str, str], ...] = (),
    command: str = "",
) -> Document:
    """Figure 3: the studies that have a d90, and a correlation for each task and method."""
    failures = failures or {}
    drawn = [summary for summary in summaries if error_bar(summary) is not None]
    claims = _claims(drawn)
    return Document(
        title=f"Figure 3: {wording.quantity(summaries)} against the number of parameters",
        answer="; ".join(f"{claim.group}: {claim}" for claim in claims) or "No study has a d90.",
        sentences=("The paper claims that larger models have a smaller d90: a negative rho.",),
        warnings=(*failure_warnings(failures), *missing_d90_warnings(summaries)),
        tables=(
            _table(drawn),
            correlation_table(claims),
            studies_table(summaries, failures),
        ),
        figures=(_figure(drawn),) if drawn else (),
        links=links,
        command=command,
    )


def _claims(drawn: Sequence[Summary]) -> list[Claim]:
    groups: dict[str, list[tuple[Summary, float]]] = {}
    for summary in drawn:
        if summary.D is not None:
            groups.setdefault(task_and_method(summary), []).append((summary, summary.D))
    name = f"{wording.quantity(drawn)} and D"
    return [Claim(name, -1, group, correlate(points)) for group, points in groups.items()]


def _table(drawn: Sequence[Summary]) -> Table:
    names = short_names(summary.model for summary in drawn)
    rows = tuple(
        _row(summary, names[summary.model])
        for summary in sorted(drawn, key=lambda s: (s.task, s.D))
    )
    columns = ("task", "model", "family", "method", "D", *D90_COLUMNS)
    return Table(
        "figure3", f"{wording.quantity(drawn)} by number of parameters", columns, rows, **D90_FORMAT
    )


def _row(summary: Summary, name: str) -> tuple[Value, ...]:
    return (
        short_name(summary.task),
        name,
        summary.family,
        summary.method,
        summary.D,
        *d90_values(summary),
    )


def _figure(drawn: Sequence[Summary]) -> Figure:
    values = "; ".join(f"{short_name(s.model)}: D = {s.D:,}, {wording.answer(s)}" for s in drawn)
    return Figure(
        name="figure3",
        caption=(
            f"{wording.quantity(drawn)} against the number of parameters D, one point per study; "
            f"the color is the family of the model, the shape the task. {CAPTION}"
        ),
        alt_text=f"{wording.quantity(drawn)} against D. {values}.",
        draw=lambda: _draw(drawn),
    )


def _draw(drawn: Sequence[Summary]) -> Drawing:
    figure = Drawing(figsize=(WIDTH, HEIGHT))
    family_colors = colors(_family(summary) for summary in drawn)
    group_markers = markers(task_and_method(summary) for summary in drawn)
    legend = [*color_handles(family_colors), *marker_handles(group_markers)]
    legend += error_bar_legend(map(error_bar, drawn))
    axes = axes_over_legend(
        figure, legend, columns=LEGEND_COLUMNS, row=LEGEND_ROW, left=0.12, width=0.84
    )
    for summary in drawn:
        bar = error_bar(summary)
        if bar is not None and summary.D is not None:
            marker, color = group_markers[task_and_method(summary)], family_colors[_family(summary)]
            draw_error_bar(axes, bar, summary.D, along="y", color=color, marker=marker)
    _name_models(axes, drawn)
    axes.margins(x=0.12, y=0.14)
    log_axis(axes, "x", (1, 3))
    log_axis(axes, "y", (1, 3))
    axes.set_xlabel("D (parameters)")
    axes.set_ylabel(wording.quantity(drawn))
    return figure


def _name_models(axes: Axes, drawn: Sequence[Summary]) -> None:
    """The name of each model, above the highest of its bars and arrows."""
    names = short_names(summary.model for summary in drawn)
    for model, name in names.items():
        bars = [(s, bar) for s in drawn if s.model == model and (bar := error_bar(s))]
        summary, highest = max(bars, key=lambda pair: (pair[1].high, pair[1].opens_up))
        axes.annotate(
            name,
            (summary.D, highest.high),
            xytext=(0, ARROW_SIZE / 2 + 2 if highest.opens_up else 4),
            textcoords="offset points",
            fontsize=6,
            horizontalalignment="center",
        )


def _family(summary: Summary) -> str:
    return summary.family or short_name(summary.model)
