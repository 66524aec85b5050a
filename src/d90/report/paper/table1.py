"""The paper's Table 1: d90 by model, task and method, with the paper's values beside ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import product

from d90.report import wording
from d90.report.document import Document, Table, Value
from d90.report.paper import published
from d90.report.paper.figure1_panels import panels
from d90.report.study_table import (
    failure_warnings,
    missing_d90_warnings,
    short_name,
    short_names,
    studies_table,
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
    """Table 1, the curves that it is based on, and a table of all studies."""
    failures = failures or {}
    name = wording.quantity(summaries)
    table, agreement = _table(summaries), _agreement(summaries)
    answered = sum(summary.d90 is not None for summary in summaries)
    return Document(
        title=f"Table 1: {name} by model and task",
        answer=f"{answered} of {len(summaries) + len(failures)} studies have a {name}.",
        sentences=(agreement,) if agreement else (),
        warnings=(*failure_warnings(failures), *missing_d90_warnings(summaries)),
        tables=(table, _first_passing_table(summaries), studies_table(summaries, failures)),
        figures=(panels(summaries),) if summaries else (),
        links=links,
        command=command,
    )


def _table(summaries: Sequence[Summary], answer: Callable[[Summary], str] = wording.cell) -> Table:
    models = short_names(summary.model for summary in summaries)
    tasks = list(dict.fromkeys(summary.task for summary in summaries))
    methods = [m for m in ORDER if any(summary.method == m for summary in summaries)]
    by_cell = {(s.model, s.task, s.method): s for s in summaries}
    columns = list(product(methods, tasks))
    rows = tuple(
        (name, *(_cell(by_cell.get((model, task, method)), answer) for method, task in columns))
        for model, name in models.items()
    )
    return Table(
        "table1",
        wording.quantity(summaries),
        ("model", *(f"{short_name(task)} {method.upper()}" for method, task in columns)),
        rows,
        _note(summaries),
    )


def _first_passing_table(summaries: Sequence[Summary]) -> Table:
    """The same table by the paper's own definition of d90."""
    return replace(
        _table(summaries, _first_passing),
        name="first_passing",
        title="first_passing_d: the smallest d tried that passes, the paper's definition",
        note="",
    )


def _first_passing(summary: Summary) -> str:
    d = summary.first_passing_d
    return "none" if d is None else wording.format_d(d)


def _cell(summary: Summary | None, answer: Callable[[Summary], str]) -> Value:
    if summary is None:
        return None
    theirs = _published(summary)
    ours = answer(summary)
    return ours if theirs is None else f"{ours} [{theirs:,}]"


def _published(summary: Summary) -> int | None:
    """The paper's d90; None for another quantity, with which it is not to be compared."""
    if summary.quantity != "d90":
        return None
    return published.d90(summary.model, summary.task, summary.method)


def _note(summaries: Sequence[Summary]) -> str:
    intervals = "In parentheses: the 95% interval. "
    parts = intervals if any(s.interval is not None for s in summaries) else ""
    if any(_published(s) is not None for s in summaries):
        parts += "In square brackets: the paper's value."
    return parts.strip()


def _agreement(summaries: Sequence[Summary]) -> str:
    """How many values agree with the paper, to within the spacing of its own."""
    pairs = [
        (summary, theirs)
        for summary in summaries
        if (theirs := _published(summary)) is not None and summary.d90 is not None
    ]
    if not pairs:
        return ""
    near = sum(_is_near(summary.d90, theirs) for summary, theirs in pairs)
    passing = sum(_is_near(summary.first_passing_d, theirs) for summary, theirs in pairs)
    return (
        f"{near} of {len(pairs)} agree with the paper within a factor of {published.RATIO}, the "
        "spacing of its own values; neighboring values of ours may be further apart. By the "
        f"paper's own definition, first_passing_d, it is {passing} of {len(pairs)}."
    )


def _is_near(ours: int | None, theirs: int) -> bool:
    return ours is not None and max(ours / theirs, theirs / ours) <= published.RATIO
