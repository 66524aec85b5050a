"""The paper's Figure 2: d90 along the pre-training of one model.

Sizes are in inches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure as Drawing

from d90.report import wording
from d90.report.document import Document, Figure, Table, Value
from d90.report.plotting import SOFT, colors, log_axis, markers, tick_label
from d90.report.study_table import (
    cells_table,
    correlation_table,
    line,
    not_measured,
    without_d90,
)
from d90.search.correlation import Correlation, spearman
from d90.search.summary import Summary

WIDTH, HEIGHT = 4.4, 3.4
NAME = "d90 with updates"


@dataclass(frozen=True)
class Checkpoint:
    """A study of one checkpoint.

    Attributes:
        step: updates of pre-training.
        perplexity: of held-out text; None where it is not known.
        summary: d90 of the checkpoint on a task.
    """

    step: int
    perplexity: float | None
    summary: Summary


def trajectory(
    checkpoints: Sequence[Checkpoint],
    failures: Mapping[str, str] | None = None,
    *,
    links: tuple[tuple[str, str], ...] = (),
    command: str = "",
) -> Document:
    """Figure 2: a line a task; checkpoints without a d90 are in the table, with the reason."""
    failures = failures or {}
    summaries = [checkpoint.summary for checkpoint in checkpoints]
    placed = [c for c in checkpoints if c.summary.d90 is not None]
    lines = dict.fromkeys(line(c.summary) for c in placed)
    found = [(NAME, name, _correlation(placed, name)) for name in lines]
    return Document(
        title="Figure 2: d90 along pre-training",
        answer="; ".join(f"{name}: {rho or 'no correlation'}" for _, name, rho in found)
        or "No checkpoint has a d90.",
        sentences=("The paper finds that d90 falls along pre-training, which is a negative rho.",),
        warnings=(*not_measured(failures), *without_d90(summaries)),
        tables=(_table(checkpoints), correlation_table(found), cells_table(summaries, failures)),
        figures=(_figure(placed),) if placed else (),
        links=links,
        command=command,
    )


def _correlation(placed: Sequence[Checkpoint], name: str) -> Correlation | None:
    points = [(c.step, c.summary.d90 or 0) for c in placed if line(c.summary) == name]
    return spearman(*zip(*points, strict=True))


def _table(checkpoints: Sequence[Checkpoint]) -> Table:
    columns = ("task", "updates", "perplexity", "majority", "full", "threshold", "d90", "why not")
    rows = tuple(_row(c) for c in sorted(checkpoints, key=lambda c: (line(c.summary), c.step)))
    return Table("figure2", "d90 by checkpoint", columns, rows)


def _row(checkpoint: Checkpoint) -> tuple[Value, ...]:
    summary = checkpoint.summary
    return (
        line(checkpoint.summary),
        checkpoint.step,
        checkpoint.perplexity,
        summary.majority,
        summary.full_metric,
        summary.threshold,
        summary.d90,
        "" if summary.d90 is not None else wording.answer(summary),
    )


def _figure(placed: Sequence[Checkpoint]) -> Figure:
    found = "; ".join(f"{line(c.summary)} after {c.step:,}: {c.summary.d90:,}" for c in placed)
    return Figure(
        name="figure2",
        caption=(
            "d90 of each checkpoint, a line a task; bars are intervals over projection seeds. "
            "Grey: perplexity of held-out text. A checkpoint without a d90 has no point."
        ),
        alt_text=f"d90 against updates of pre-training. {found}.",
        draw=lambda: _draw(placed),
    )


def _draw(placed: Sequence[Checkpoint]) -> Drawing:
    figure = Drawing(figsize=(WIDTH, HEIGHT))
    axes = figure.add_axes((0.13, 0.24, 0.73, 0.72))
    names = [line(checkpoint.summary) for checkpoint in placed]
    shades, shapes = colors(names), markers(names)
    for name in shades:
        points = sorted((c for c in placed if line(c.summary) == name), key=lambda c: c.step)
        xy = [(c.step, c.summary.d90) for c in points]
        look = {"color": shades[name], "marker": shapes[name], "markersize": 4}
        axes.plot(*zip(*xy, strict=True), linewidth=1, label=name, zorder=3, **look)
        for c in points:
            low, high = c.summary.interval or (None, None)
            if low is not None and high is not None:
                axes.plot([c.step, c.step], [low, high], color=shades[name], linewidth=0.7)
    axes.set_xlabel("updates of pre-training")
    axes.set_ylabel("d90")
    axes.xaxis.set_major_formatter(tick_label)
    log_axis(axes, "y", (1, 3))
    known = sorted({(c.step, c.perplexity) for c in placed if c.perplexity is not None})
    if len(known) > 1:
        right = axes.twinx()
        right.spines["right"].set_visible(True)
        right.plot(*zip(*known, strict=True), color=SOFT, linewidth=0.8, linestyle=(0, (1, 1.5)))
        right.set_ylabel("held-out perplexity", color=SOFT)
        right.tick_params(axis="y", colors=SOFT)
        log_axis(right, "y", (1, 2, 5))
    figure.legend(loc="lower center", ncols=min(len(shades), 2), frameon=False)
    return figure
