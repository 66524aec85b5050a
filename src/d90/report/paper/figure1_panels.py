"""The paper's Figure 1: metric against d, one panel per task, several models in each.

Sizes are in inches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.lines import Line2D

from d90.report import wording
from d90.report.document import Figure
from d90.report.error_bar import CAPTION, draw_error_bar, error_bar, error_bar_legend
from d90.report.plotting import INK, SOFT, colors, log_axis
from d90.report.study_table import short_name, short_names
from d90.search.summary import Summary

PANEL_WIDTH, PANEL_HEIGHT, MOST_COLUMNS = 3.1, 2.1, 3
LEFT, RIGHT, TOP, BOTTOM, GAP_X, GAP_Y = 0.5, 0.1, 0.25, 0.45, 0.55, 0.65
LEGEND_ROW = 0.16
DASHES = {"did": "-", "said": (0, (4, 1.5))}


def panels(summaries: Sequence[Summary]) -> Figure:
    """Figure 1 of the studies: the curve, full metric, threshold and d90 of each."""
    answers = "; ".join(
        f"{short_name(s.model)} on {short_name(s.task)} by {s.method.upper()}: {wording.answer(s)}"
        for s in summaries
    )
    both = len({summary.method for summary in summaries}) > 1
    line_styles = " Solid curves are DID, dashed ones SAID." if both else ""
    return Figure(
        name="figure1",
        caption=(
            "The best metric over the learning rates at each d, averaged over seeds. Horizontal "
            "lines: full fine-tuning (solid) and the threshold (dashed), in the model's color; "
            "the best constant prediction (dotted, grey). A diamond is "
            f"{wording.quantity(summaries)}. {CAPTION}{line_styles}"
        ),
        alt_text=f"Metric against d for each study. {answers}.",
        draw=lambda: _draw(summaries),
    )


def _draw(summaries: Sequence[Summary]) -> Drawing:
    tasks = list(dict.fromkeys(summary.task for summary in summaries))
    columns = min(len(tasks), MOST_COLUMNS)
    rows = math.ceil(len(tasks) / columns)
    names = short_names(summary.model for summary in summaries)
    palette = colors(names)
    legend = _legend(summaries, names, palette)
    legend_columns = min(2 * columns, len(legend))
    legend_rows = math.ceil(len(legend) / legend_columns)
    foot = BOTTOM + LEGEND_ROW * (legend_rows + 0.5)
    width = LEFT + RIGHT + columns * PANEL_WIDTH + (columns - 1) * GAP_X
    height = foot + TOP + rows * PANEL_HEIGHT + (rows - 1) * GAP_Y
    figure = Drawing(figsize=(width, height))
    for i, task in enumerate(tasks):
        row, column = divmod(i, columns)
        x = LEFT + column * (PANEL_WIDTH + GAP_X)
        y = foot + (rows - 1 - row) * (PANEL_HEIGHT + GAP_Y)
        box = (x / width, y / height, PANEL_WIDTH / width, PANEL_HEIGHT / height)
        axes = figure.add_axes(box, title=short_name(task))
        axes.title.set_fontsize(8)
        _panel(axes, [summary for summary in summaries if summary.task == task], palette)
    figure.legend(
        handles=legend,
        loc="lower center",
        ncols=legend_columns,
        frameon=False,
        handlelength=1.8,
    )
    return figure


def _panel(axes: Axes, summaries: Sequence[Summary], palette: dict[str, str]) -> None:
    axes.set_xlabel("d (trained parameters)")
    axes.set_ylabel(summaries[0].score_name)
    for summary in summaries:
        color = palette[summary.model]
        points = [(point.d, point.best) for point in summary.curve]
        if points:
            line = DASHES[summary.method]
            axes.plot(
                *zip(*points, strict=True), color=color, linewidth=1, linestyle=line, zorder=2
            )
            axes.plot(*zip(*points, strict=True), ".", color=color, markersize=2.5, zorder=2)
        for level, dashes in ((summary.full_metric, "-"), (summary.threshold, (0, (5, 2)))):
            if level is not None:
                axes.axhline(level, color=color, linewidth=0.6, linestyle=dashes, zorder=1)
        bar = error_bar(summary)
        if bar is not None and summary.threshold is not None:
            draw_error_bar(
                axes, bar, summary.threshold, along="x", color=color, marker="D", edge=INK
            )
    majority = max(summary.floor for summary in summaries)
    axes.axhline(majority, color=SOFT, linewidth=0.9, linestyle=(0, (1, 1.5)), zorder=1)
    log_axis(axes, "x")


def _legend(
    summaries: Sequence[Summary], names: dict[str, str], palette: dict[str, str]
) -> list[Line2D]:
    handles = [Line2D([], [], color=palette[model], label=name) for model, name in names.items()]
    methods = dict.fromkeys(summary.method for summary in summaries)
    if len(methods) > 1:
        handles += [
            Line2D([], [], color=INK, linewidth=1, linestyle=DASHES[method], label=method.upper())
            for method in methods
        ]
    return handles + error_bar_legend(map(error_bar, summaries))
