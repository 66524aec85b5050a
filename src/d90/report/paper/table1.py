"""The paper's Table 1: d90 by model, task and method, with the paper's numbers beside ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

from d90.report.document import Document, Table, Value
from d90.report.paper import published
from d90.report.paper.figure1_panels import panels
from d90.report.study_table import (
    answer,
    cells_table,
    not_measured,
    short_name,
    short_names,
    without_d90,
)
from d90.search.summary import Summary

ORDER = ("said", "did")
"""As in the paper's table."""


def table1(
    summaries: Sequence[Summary],
    failures: Mapping[str, str] | None = None,
    *,
    links: tuple[tuple[str, str], ...] = (),
    command: str = "",
) -> Document:
    """Table 1, the curves that it is read off, and every study in full."""
    failures = failures or {}
    table, compared = _table(summaries), _compared(summaries)
    found = sum(summary.d90 is not None for summary in summaries)
    return Document(
        title="Table 1: d90 by model and task",
        answer=f"{found} of {len(summaries) + len(failures)} studies have a d90.",
        sentences=(compared,) if compared else (),
        warnings=(*not_measured(failures), *without_d90(summaries)),
        tables=(table, cells_table(summaries, failures)),
        figures=(panels(summaries),) if summaries else (),
        links=links,
        command=command,
    )


def _table(summaries: Sequence[Summary]) -> Table:
    models = short_names(summary.model for summary in summaries)
    tasks = list(dict.fromkeys(summary.task for summary in summaries))
    methods = [m for m in ORDER if any(summary.method == m for summary in summaries)]
    by_cell = {(s.model, s.task, s.method): s for s in summaries}
    columns = list(product(methods, tasks))
    rows = tuple(
        (name, *(_cell(by_cell.get((model, task, method))) for method, task in columns))
        for model, name in models.items()
    )
    return Table(
        "table1",
        "d90",
        ("model", *(f"{short_name(task)} {method.upper()}" for method, task in columns)),
        rows,
        _note(summaries),
    )


def _cell(summary: Summary | None) -> Value:
    if summary is None:
        return None
    theirs = published.d90(summary.model, summary.task, summary.method)
    ours = answer(summary)
    return ours if theirs is None else f"{ours} [{theirs:,}]"


def _note(summaries: Sequence[Summary]) -> str:
    intervals = "In brackets the 95% interval over projection seeds. "
    parts = intervals if any(s.interval is not None for s in summaries) else ""
    if any(published.d90(s.model, s.task, s.method) is not None for s in summaries):
        parts += "In square brackets the paper's number."
    return parts.strip()


def _compared(summaries: Sequence[Summary]) -> str:
    """How many agree with the paper, as far as its ladder of dimensions can tell."""
    pairs = [
        (summary.d90, theirs)
        for summary in summaries
        if (theirs := published.d90(summary.model, summary.task, summary.method)) is not None
        and summary.d90 is not None
    ]
    if not pairs:
        return ""
    near = sum(max(a / b, b / a) <= published.RATIO for a, b in pairs)
    return (
        f"{near} of {len(pairs)} agree with the paper within a factor of {published.RATIO}, the "
        "spacing of its own values; neighboring values of ours may lie further apart."
    )
