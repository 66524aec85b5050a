"""The paper's Figure 2: d90 along the pre-training of one model.

Sizes are in inches.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.lines import Line2D

from d90.report import wording
from d90.report.document import Document, Figure, Table, Value
from d90.report.error_bar import CAPTION, draw_error_bar, error_bar, error_bar_legend
from d90.report.plotting import SOFT, axes_over_legend, colors, log_axis, markers, tick_label
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
    studies_table,
    task_and_method,
)
from d90.search.summary import Summary

WIDTH, HEIGHT = 4.4, 3.4
LEGEND_COLUMNS, LEGEND_ROW = 2, 0.06


@dataclass(frozen=True)
class Checkpoint:
    """A study of one checkpoint.

    Attributes:
        step: optimizer steps of pre-training; with a label, the position in the series.
        perplexity: on the validation split of pre-training; None if unknown.
        summary: d90 of the checkpoint on a task.
        label: name of the checkpoint, if its number of steps is not known.
    """

    step: int
    perplexity: float | None
    summary: Summary
    label: str | None = None


def trajectory(
    checkpoints: Sequence[Checkpoint],
    failures: Mapping[str, str] | None = None,
    *,
    links: tuple[tuple[str, str], ...] = (),
    command: str = "",
) -> Document:
    """Figure 2: one line per task; checkpoints without a d90 are in the table, with the status."""
    failures = failures or {}
    summaries = [checkpoint.summary for checkpoint in checkpoints]
    drawn = [c for c in checkpoints if error_bar(c.summary) is not None]
    claims = _claims(drawn)
    return Document(
        title=f"Figure 2: {_quantity(checkpoints)} along pre-training",
        answer="; ".join(f"{claim.group}: {claim}" for claim in claims)
        or "No checkpoint has a d90.",
        sentences=("The paper claims that d90 falls along pre-training: a negative rho.",),
        warnings=(*failure_warnings(failures), *missing_d90_warnings(summaries)),
        tables=(
            _table(checkpoints),
            correlation_table(claims),
            studies_table(summaries, failures),
        ),
        figures=(_figure(drawn),) if drawn else (),
        links=links,
        command=command,
    )


def _claims(drawn: Sequence[Checkpoint]) -> list[Claim]:
    groups: dict[str, list[tuple[Summary, float]]] = {}
    for checkpoint in drawn:
        group = groups.setdefault(task_and_method(checkpoint.summary), [])
        group.append((checkpoint.summary, checkpoint.step))
    name = f"{_quantity(drawn)} and pre-training step"
    return [Claim(name, -1, group, correlate(points, _own)) for group, points in groups.items()]


def _own(summary: Summary) -> str:
    """Each checkpoint is its own cluster: all are of one run."""
    return summary.model


def _table(checkpoints: Sequence[Checkpoint]) -> Table:
    ordered = sorted(checkpoints, key=lambda c: (task_and_method(c.summary), c.step))
    columns = (
        "task",
        "method",
        "step",
        "perplexity",
        "majority",
        "full",
        "threshold",
        *D90_COLUMNS,
        "status",
    )
    rows = tuple(_row(c) for c in ordered)
    return Table("figure2", f"{_quantity(ordered)} by checkpoint", columns, rows, **D90_FORMAT)


def _quantity(checkpoints: Sequence[Checkpoint]) -> str:
    return wording.quantity(checkpoint.summary for checkpoint in checkpoints)


def _row(checkpoint: Checkpoint) -> tuple[Value, ...]:
    summary = checkpoint.summary
    return (
        short_name(summary.task),
        summary.method,
        checkpoint.label or checkpoint.step,
        checkpoint.perplexity,
        summary.majority,
        summary.full_metric,
        summary.threshold,
        *d90_values(summary),
        summary.status,
    )


def _figure(drawn: Sequence[Checkpoint]) -> Figure:
    values = "; ".join(
        f"{task_and_method(c.summary)} at {c.label or format(c.step, ',')}: "
        f"{wording.cell(c.summary)}"
        for c in drawn
    )
    return Figure(
        name="figure2",
        caption=(
            f"{_quantity(drawn)} of each checkpoint, one line per task. {CAPTION} Gray: validation "
            "perplexity. A checkpoint whose study says nothing of d90 has no point."
        ),
        alt_text=f"{_quantity(drawn)} against optimizer steps of pre-training. {values}.",
        draw=lambda: _draw(drawn),
    )


def _draw(drawn: Sequence[Checkpoint]) -> Drawing:
    figure = Drawing(figsize=(WIDTH, HEIGHT))
    groups = [task_and_method(checkpoint.summary) for checkpoint in drawn]
    group_colors, group_markers = colors(groups), markers(groups)
    legend = [
        Line2D([], [], color=color, marker=group_markers[group], markersize=4, label=group)
        for group, color in group_colors.items()
    ]
    legend += error_bar_legend(error_bar(c.summary) for c in drawn)
    axes = axes_over_legend(
        figure, legend, columns=LEGEND_COLUMNS, row=LEGEND_ROW, left=0.13, width=0.73
    )
    for group, color in group_colors.items():
        members = sorted(
            (c for c in drawn if task_and_method(c.summary) == group), key=lambda c: c.step
        )
        _draw_group(axes, members, color, group_markers[group])
    axes.set_ylabel(_quantity(drawn))
    labels = {c.step: c.label for c in drawn if c.label is not None}
    if labels:
        axes.set_xlabel("checkpoint")
        axes.set_xticks(sorted(labels), [labels[step] for step in sorted(labels)])
    else:
        axes.set_xlabel("optimizer steps of pre-training")
        axes.xaxis.set_major_formatter(tick_label)
    axes.margins(y=0.12)
    log_axis(axes, "y", (1, 3))
    _draw_perplexity(axes, drawn)
    return figure


def _draw_group(axes: Axes, members: Sequence[Checkpoint], color: str, marker: str) -> None:
    """The points of a line, joined where neighbors have a d90."""
    line = [(c.step, math.nan if c.summary.d90 is None else c.summary.d90) for c in members]
    axes.plot(*zip(*line, strict=True), color=color, linewidth=1, zorder=2)
    for c in members:
        bar = error_bar(c.summary)
        if bar is not None:
            draw_error_bar(axes, bar, c.step, along="y", color=color, marker=marker, size=4)


def _draw_perplexity(axes: Axes, drawn: Sequence[Checkpoint]) -> None:
    """The validation perplexity, where it is known, on an axis at the right."""
    known = sorted({(c.step, c.perplexity) for c in drawn if c.perplexity is not None})
    if len(known) < 2:
        return
    right = axes.twinx()
    right.spines["right"].set_visible(True)
    right.plot(*zip(*known, strict=True), color=SOFT, linewidth=0.8, linestyle=(0, (1, 1.5)))
    right.set_ylabel("validation perplexity", color=SOFT)
    right.tick_params(axis="y", colors=SOFT)
    log_axis(right, "y", (1, 2, 5))
