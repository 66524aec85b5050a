"""The report of one study as a document: the answer, the curve and every run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import groupby

from d90.report import wording
from d90.report.curve import draw_curve
from d90.report.document import (
    Document,
    Figure,
    RowStyle,
    Table,
    Value,
    format_dimension,
    format_rate,
)
from d90.report.narrowing import narrowing_figure, narrowing_table
from d90.report.settings import OPTIONS, settings_table
from d90.search.criteria import SMOOTH
from d90.search.curve import Point, valid_results
from d90.search.summary import Summary
from d90.search.trial import TrialResult

TERMINAL_ROWS = 20
"""Dimensions shown in the terminal; the page and `trials.csv` have them all."""

TRIAL_COLUMNS = (
    "d",
    "learning_rate",
    "seed",
    "metric",
    "train_metric",
    *SMOOTH,
    "status",
    "seconds",
    "message",
)


def study_document(summary: Summary) -> Document:
    """The report of a study: `trials.csv`, the figure `curve` and, with a history, `narrowing`."""
    tables = (
        _facts_table(summary),
        _best_table(summary),
        *((narrowing_table(summary),) if summary.history else ()),
        trials_table(summary.ordered_trials, summary.metric),
        settings_table(summary.settings, {} if summary.objective else OPTIONS),
        Table(None, "Versions", ("package", "version"), tuple(summary.versions.items()), "", 0),
    )
    return Document(
        title=summary.title,
        answer=wording.answer(summary),
        sentences=(wording.sentence(summary),),
        warnings=summary.warnings,
        tables=tuple(table for table in tables if table.rows or table.name),
        figures=(_curve(summary), *((narrowing_figure(summary),) if summary.history else ())),
        command=summary.command,
    )


def _curve(summary: Summary) -> Figure:
    points = ", ".join(f"{wording.format_metric(p.best)} at d = {p.d:,}" for p in summary.curve)
    return Figure(
        name="curve",
        caption=(
            f"One point per run. Crosses are failed runs, at the {summary.reference} where they "
            "have no metric. The line joins the best of the learning rates at each d, averaged "
            "over seeds. "
            f"{wording.selection(summary)}"
        ),
        alt_text=(
            f"{summary.score_name} against d. {wording.answer(summary)}. Full fine-tuning "
            f"{wording.format_metric(summary.full_metric)}, threshold "
            f"{wording.format_metric(summary.threshold)}, {wording.floor_name(summary)} "
            f"{wording.format_metric(summary.floor)}. Best: {points or 'no run trained'}."
        ),
        draw=lambda: draw_curve(summary),
    )


def _facts_table(summary: Summary) -> Table:
    threshold = wording.format_metric(summary.threshold)
    facts = {
        **_trained(summary),
        "Metric": summary.metric,
        "Criterion": summary.score_name,
        "Full fine-tuning": wording.format_metric(summary.full_metric),
        "Threshold": f"{threshold} ({summary.target_fraction:g} of {_target_of(summary)})",
        summary.reference.capitalize(): wording.format_metric(summary.majority),
        "At z = 0": ", ".join(
            f"{name} {wording.format_metric(value)}" for name, value in summary.initial.items()
        ),
        "Status": summary.status,
        "Interval": wording.interval(summary),
        "Smallest d tried that passes": _dimension_or_none(summary.first_passing_d),
        "Started": summary.started or "",
        "Finished": summary.finished or "",
    }
    rows = tuple((name, value) for name, value in facts.items() if value)
    return Table(None, "What was measured", ("property", "value"), rows, terminal_rows=0)


def _trained(summary: Summary) -> dict[str, str]:
    """Model, task and subspace, or the objective."""
    size = "" if summary.D is None else f" (D = {summary.D:,})"
    subspace = summary.subspace
    if subspace is None:
        return {"Objective": f"{summary.objective}{size}"}
    m = "" if summary.m is None else f" (m = {summary.m})"
    return {
        "Model": f"{summary.model}{size}",
        "Task": summary.task,
        "Method": subspace.method.upper(),
        "Groups": f"{subspace.groups}{m}",
        "Projection": subspace.projection,
        "Scale": subspace.scale,
    }


def _target_of(summary: Summary) -> str:
    return "its gain" if summary.criterion_of == "gain" else "it"


def _dimension_or_none(d: int | None) -> str:
    return "none" if d is None else wording.format_d(d)


def _best_table(summary: Summary) -> Table:
    """The best run at each d; the first row that passes is emphasized."""
    ordered = sorted(summary.scored_trials, key=lambda result: result.trial.sort_key)
    by_d = {d: list(results) for d, results in groupby(ordered, lambda r: r.trial.d)}
    return Table(
        name=None,
        title="Best run at each d",
        columns=("d", "metric", "learning rate", "runs", "passes"),
        rows=tuple(_best_row(summary, results) for results in by_d.values()),
        terminal_rows=TERMINAL_ROWS,
        headers={"metric": summary.score_name, "passes": f"≥{wording.percent(summary)}"},
        formats={"d": format_dimension, "learning rate": format_rate},
        styles=tuple(
            "best" if d is not None and d == summary.first_passing_d else "" for d in by_d
        ),
    )


def _best_row(summary: Summary, results: Sequence[TrialResult]) -> tuple[Value, ...]:
    """(d, height of the curve, best run's learning rate, runs that trained, whether it passes)."""
    d = results[0].trial.d
    trained = valid_results(results)
    best = max(trained, key=lambda result: result.metric or 0.0, default=None)
    point = next((point for point in summary.curve if point.d == d), None)
    height = summary.full_metric if d is None else point and point.best
    return (
        d,
        height,
        None if best is None else best.trial.learning_rate,
        f"{len(trained)}/{len(results)}",
        "" if d is None else _passes(point, summary.threshold),
    )


def _passes(point: Point | None, threshold: float | None) -> str | None:
    if point is None or threshold is None:
        return None
    return "yes" if point.passes(threshold) else "no"


def trials_table(results: Iterable[TrialResult], metric: str = "metric") -> Table:
    """One row per run, in the given order; d is None for full fine-tuning.

    Args:
        results: the runs.
        metric: name of the metric, for the header.
    """
    results = tuple(results)
    best = {
        d: max((r.metric or 0.0 for r in valid_results(of_d)), default=None)
        for d, of_d in groupby(sorted(results, key=_by_d), lambda r: r.trial.d)
    }
    return Table(
        name="trials",
        title="Runs",
        columns=TRIAL_COLUMNS,
        rows=tuple(_trial_row(result) for result in results),
        note=f"{len(results)} runs; the best run at each d is in bold.",
        terminal_rows=0,
        headers={
            "learning_rate": "learning rate",
            "metric": metric,
            "train_metric": "on training data",
            **{name: f"{name} skill" for name in SMOOTH},
        },
        formats={"d": format_dimension, "learning_rate": format_rate, "seconds": _seconds},
        styles=tuple(_trial_style(result, best[result.trial.d]) for result in results),
    )


def _by_d(result: TrialResult) -> int:
    return -1 if result.trial.d is None else result.trial.d


def _trial_row(result: TrialResult) -> tuple[Value, ...]:
    trial = result.trial
    return (
        trial.d,
        trial.learning_rate,
        trial.seed,
        _finite(result.metric),
        _finite(result.train_metric),
        *(_finite(result.skills.get(name)) for name in SMOOTH),
        result.status,
        _finite(result.seconds),
        result.message,
    )


def _trial_style(result: TrialResult, best: float | None) -> RowStyle:
    if not result.is_valid:
        return "failed"
    return "best" if result.metric == best else ""


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _seconds(value: Value) -> str:
    return "–" if value is None else f"{float(value):,.0f}"
