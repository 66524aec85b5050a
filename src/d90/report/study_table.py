"""What the reports of several studies share: names, tables and warnings."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Literal

from d90.report import wording
from d90.report.document import Table, Value
from d90.search.correlation import Correlation, spearman
from d90.search.summary import Summary

D90_COLUMNS = ("d90", "low", "high", "first_passing_d")

D90_FORMAT: Mapping[str, Any] = {
    "intervals": {"d90": ("low", "high")},
    "headers": {"first_passing_d": "first passing d"},
}
"""How a `Table` shows these columns."""

COLUMNS = (
    "model",
    "task",
    "method",
    "D",
    "m",
    "majority",
    "full",
    "threshold",
    "criterion",
    *D90_COLUMNS,
    "status",
    "runs",
    "minutes",
)


def d90_values(summary: Summary) -> tuple[int | None, ...]:
    """The values in `D90_COLUMNS`."""
    low, high = summary.interval or (None, None)
    return summary.d90, low, high, summary.first_passing_d


def short_name(name: str) -> str:
    """The last part of a path or a hub id, which fits in a legend.

    >>> short_name("FacebookAI/roberta-base"), short_name("runs/mini/"), short_name("minilm-l6")
    ('roberta-base', 'mini', 'minilm-l6')
    """
    return PurePath(name).name or name


def short_names(names: Iterable[str]) -> dict[str, str]:
    """A short name for each, with its parent folder where two would be the same.

    >>> short_names(["a/mini", "b/mini", "c/base"])
    {'a/mini': 'a/mini', 'b/mini': 'b/mini', 'c/base': 'base'}
    """
    names = list(dict.fromkeys(names))
    last = [short_name(name) for name in names]
    return {
        name: short if last.count(short) == 1 else "/".join(PurePath(name).parts[-2:])
        for name, short in zip(names, last, strict=True)
    }


def short_title(summary: Summary) -> str:
    """What was trained, with short names."""
    if summary.objective:
        return summary.objective
    return f"{short_name(summary.model)} on {task_and_method(summary)}"


def task_and_method(summary: Summary) -> str:
    """Task and method: studies that agree in both form a group in figures and correlations."""
    return f"{short_name(summary.task)}, {summary.method.upper()}"


@dataclass(frozen=True)
class Claim:
    """A claim of the paper about d90, and what the studies of a group say.

    Attributes:
        quantity: what d90 goes with.
        sign: of rho, by the paper.
        group: of the studies.
        correlation: None if it is not defined.
    """

    quantity: str
    sign: Literal[-1, 1]
    group: str
    correlation: Correlation | None

    def __str__(self) -> str:
        rho = self.correlation
        return "no correlation" if rho is None else f"{rho}: {rho.verdict(self.sign)}"


def pretrained_model(summary: Summary) -> str:
    """The name of the model that a study's is a checkpoint or revision of; its own if of none.

    >>> from types import SimpleNamespace
    >>> names = ("runs/nano/checkpoints/step-00000800", "nano", "EleutherAI/pythia-70m@step1000")
    >>> [pretrained_model(SimpleNamespace(model=name)) for name in names]
    ['nano', 'nano', 'pythia-70m']
    """
    path = PurePath(summary.model)
    is_checkpoint = path.parent.name == "checkpoints"
    return short_name(str(path.parent.parent if is_checkpoint else path)).partition("@")[0]


def correlate(
    points: Iterable[tuple[Summary, float]],
    cluster: Callable[[Summary], str] = pretrained_model,
) -> Correlation | None:
    """Of d90 and another value, where studies of one cluster are not independent.

    A study that ended as `above-maximum` ties with the highest, one that ended as `at-minimum` with
    the lowest; one that says nothing of d90 is left out.
    """
    ends = {"above-maximum": math.inf, "at-minimum": -math.inf}
    ranked = [
        (ends[s.status] if s.d90 is None else s.d90, value, cluster(s))
        for s, value in points
        if s.d90 is not None or s.status in ends
    ]
    return spearman(*(list(column) for column in zip(*ranked, strict=True))) if ranked else None


def correlation_table(claims: Iterable[Claim]) -> Table:
    """Spearman's correlation of each claim."""
    rows = tuple(_correlation_row(claim) for claim in claims)
    columns = ("quantity", "group", "Spearman's rho", "low", "high", "n", "models", "verdict")
    note = (
        "95% intervals by resampling models, given at least four; one that includes 0 leaves the "
        "claim undecided. Answers above the maximum tie highest, those at the minimum lowest. "
        "Sizes of one family are less independent than models."
    )
    return Table("correlations", "Rank correlations", columns, rows, note)


def _correlation_row(claim: Claim) -> tuple[Value, ...]:
    rho = claim.correlation
    if rho is None:
        return (claim.quantity, claim.group, None, None, None, None, None, None)
    numbers = (rho.rho, rho.low, rho.high, rho.n, rho.clusters)
    return (claim.quantity, claim.group, *numbers, rho.verdict(claim.sign))


def studies_table(summaries: Iterable[Summary], failures: Mapping[str, str]) -> Table:
    """One row per study, with or without a d90; the note names those that failed too."""
    rows = tuple(_row(summary) for summary in summaries)
    missing = [f"Not measured: {name}: {why}" for name, why in failures.items()]
    note = " ".join([wording.ACCURACIES, *missing])
    return Table("studies", "All studies", COLUMNS, rows, note, terminal_rows=0, **D90_FORMAT)


def missing_d90_warnings(summaries: Iterable[Summary]) -> tuple[str, ...]:
    """A warning for each study without a d90: the figures draw an arrow, or leave it out."""
    return tuple(
        f"{short_title(s)}, is "
        f"{'an arrow' if wording.one_sided(s) else 'in the tables, not'} in the figures: "
        f"{wording.answer(s)}"
        for s in summaries
        if s.d90 is None
    )


def failure_warnings(failures: Mapping[str, str]) -> tuple[str, ...]:
    """A warning for each study that could not run."""
    return tuple(f"not measured: {name}: {why}" for name, why in failures.items())


def _criterion(summary: Summary) -> str:
    """`accuracy`, `accuracy gain` or `brier skill`."""
    is_gain = summary.criterion_of == "gain" and summary.criterion == summary.metric
    return f"{summary.metric} gain" if is_gain else summary.score_name


def _row(summary: Summary) -> tuple[Value, ...]:
    return (
        summary.objective or summary.model,
        summary.task,
        summary.method,
        summary.D,
        summary.m,
        summary.majority,
        summary.full_metric,
        summary.threshold,
        _criterion(summary),
        *d90_values(summary),
        summary.status,
        len(summary.trials),
        sum(result.seconds for result in summary.trials) / 60,
    )
