"""The report in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from d90.report import wording
from d90.search.curve import passes, valid_results
from d90.search.summary import Summary
from d90.search.trial import TrialResult

MOST_ROWS = 20
"""More dimensions than this are thinned out in the terminal; every run is in `trials.csv`."""


def render_text(summary: Summary) -> RenderableType:
    """The best run at each d, the warnings and the answer; from 40 characters of width up."""
    title = f"{summary.model} on {summary.task}, {summary.method.upper()}"
    parts: list[RenderableType] = [Text(title, style="bold")]
    if summary.trials:
        parts.append(Padding(_table(summary), (1, 0)))
    parts += [Text(f"warning: {warning}", style="yellow") for warning in summary.warnings]
    answered = summary.d90 is not None
    parts.append(Text(wording.answer(summary), style="bold green" if answered else "bold yellow"))
    parts.append(Text(wording.sentence(summary)))
    return Group(*parts)


def _table(summary: Summary) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for header in ("d", summary.metric, "rate", "runs", f"≥{wording.percent(summary)}"):
        table.add_column(header, justify="right", no_wrap=True)
    by_d = {d: list(results) for d, results in groupby(summary.ordered_trials, lambda r: r.trial.d)}
    shown = downsample(list(by_d), MOST_ROWS, keep=summary.d90)
    for d in shown:
        table.add_row(*_row(summary, by_d[d]))
    if len(shown) < len(by_d):
        table.caption = f"{len(shown)} rows of {len(by_d)}"
    return table


def _row(summary: Summary, results: Sequence[TrialResult]) -> list[str]:
    """One d: its height on the curve, its best run's rate, runs that trained, whether it passes."""
    d = results[0].trial.d
    trained = valid_results(results)
    best = max(trained, key=lambda result: result.metric or 0.0, default=None)
    heights: dict[int | None, float | None] = {point.d: point.best for point in summary.curve}
    height = summary.full_metric if d is None else heights.get(d)
    return [
        wording.dimension(d),
        wording.number(height),
        "–" if best is None else f"{best.trial.learning_rate:g}",
        f"{len(trained)}/{len(results)}",
        "" if d is None else _passes(height, summary.threshold),
    ]


def _passes(height: float | None, threshold: float | None) -> str:
    if height is None or threshold is None:
        return "–"
    return "yes" if passes(height, threshold) else "no"


def downsample(dims: Sequence[int | None], most: int, keep: int | None) -> list[int | None]:
    """At most `most` of the dimensions, evenly spread, with both ends; and `keep` besides.

    >>> downsample([10, 20, 30, 40, 50, 60], 3, keep=20)
    [10, 20, 30, 60]
    """
    if len(dims) <= most:
        return list(dims)
    chosen = {dims[i * (len(dims) - 1) // (most - 1)] for i in range(most)}
    return [d for d in dims if d in chosen or (keep is not None and d == keep)]
