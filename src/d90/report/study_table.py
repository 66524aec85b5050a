"""What tables and figures of several studies read off each of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import PurePath

from d90.report import wording
from d90.report.document import Table, Value
from d90.search.correlation import Correlation
from d90.search.summary import Summary

COLUMNS = (
    "model",
    "task",
    "method",
    "D",
    "m",
    "majority",
    "full",
    "threshold",
    "d90",
    "low",
    "high",
    "status",
    "runs",
    "minutes",
)


def short_name(name: str) -> str:
    """The last part of a path or a hub id: what fits in a legend.

    >>> short_name("FacebookAI/roberta-base"), short_name("runs/mini/"), short_name("minilm-l6")
    ('roberta-base', 'mini', 'minilm-l6')
    """
    return PurePath(name).name or name


def short_names(names: Iterable[str]) -> dict[str, str]:
    """A short name for each, longer by a folder where two would be the same.

    >>> short_names(["a/mini", "b/mini", "c/base"])
    {'a/mini': 'a/mini', 'b/mini': 'b/mini', 'c/base': 'base'}
    """
    names = list(dict.fromkeys(names))
    last = [short_name(name) for name in names]
    return {
        name: short if last.count(short) == 1 else "/".join(PurePath(name).parts[-2:])
        for name, short in zip(names, last, strict=True)
    }


def answer(summary: Summary) -> str:
    """d90 in a cell of a table: a number with its interval, or why there is none."""
    if summary.d90 is None:
        reason = wording.answer(summary).removeprefix(wording.name(summary)).strip()
        return summary.status if reason.startswith("no ") else reason
    span = wording.interval(summary)
    number = wording.dimension(summary.d90)
    return f"{number} ({span})" if span else number


def line(summary: Summary) -> str:
    """Task and method: what a correlation is within."""
    return f"{short_name(summary.task)}, {summary.method.upper()}"


def correlation_table(groups: Iterable[tuple[str, str, Correlation | None]]) -> Table:
    """Spearman's correlation of each (quantity, group); empty where it is not defined."""
    rows = tuple(
        (quantity, group, None, None, None, None)
        if found is None
        else (quantity, group, found.rho, found.low, found.high, found.n)
        for quantity, group, found in groups
    )
    columns = ("quantity", "among", "Spearman's rho", "low", "high", "points")
    note = (
        "95% intervals, from four points on. Studies of one model family are not independent "
        "draws: read them with that in mind."
    )
    return Table("correlations", "Rank correlations", columns, rows, note)


def cells_table(summaries: Iterable[Summary], failures: Mapping[str, str]) -> Table:
    """Every study in a row, also those that have no d90, and why; those that failed in the note."""
    rows = tuple(_row(summary) for summary in summaries)
    note = " ".join(f"Not measured: {name}: {why}" for name, why in failures.items())
    return Table("studies", "Every study", COLUMNS, rows, note, terminal_rows=0)


def without_d90(summaries: Iterable[Summary]) -> tuple[str, ...]:
    """A warning for each study that has no d90: it is in no figure."""
    return tuple(
        f"{short_name(s.model)} on {short_name(s.task)}, {s.method.upper()}, is in the tables "
        f"and not in the figures: {wording.answer(s)}"
        for s in summaries
        if s.d90 is None
    )


def not_measured(failures: Mapping[str, str]) -> tuple[str, ...]:
    """A warning for each study that could not be run."""
    return tuple(f"not measured: {name}: {why}" for name, why in failures.items())


def _row(summary: Summary) -> tuple[Value, ...]:
    low, high = summary.interval or (None, None)
    return (
        summary.model,
        summary.task,
        summary.method,
        summary.D,
        summary.m,
        summary.majority,
        summary.full_metric,
        summary.threshold,
        summary.d90,
        low,
        high,
        summary.status,
        len(summary.trials),
        sum(result.seconds for result in summary.trials) / 60,
    )
