"""The paper's Figures 4 and 5: d90 and generalization, with the bound of Theorem 1.

Sizes are in inches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

from matplotlib.figure import Figure as Drawing

from d90.bounds import occam_hoeffding
from d90.bounds.description_length import run_code_lengths
from d90.errors import D90Error
from d90.report import wording
from d90.report.document import Document, Figure, Table, Value
from d90.report.error_bar import (
    CAPTION,
    ErrorBar,
    draw_error_bar,
    error_bar,
    error_bar_legend,
)
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
    missing_d90_warnings,
    short_name,
    short_names,
    studies_table,
    task_and_method,
)
from d90.search.correlation import Correlation
from d90.search.curve import valid_results
from d90.search.estimate import relative_generalization_gap
from d90.search.summary import Summary
from d90.search.trial import Trial, TrialResult

WIDTH, HEIGHT = 4.4, 3.3
LEGEND_COLUMNS, LEGEND_ROW = 3, 0.06
MAX_MODELS = 6
"""The legend names the models if there are no more than these."""

BITS = 32
"""Bits per trained parameter: the runs are float32, and no other model was evaluated."""

CHOICES = {"criterion": 3}
"""What else was chosen from a list of so many, with the data at hand: which epoch is the best."""

RUNS = ("best", "d90")
"""Which run's accuracies: the best evaluation metric of the study, or of its runs at d90."""


class Bound(NamedTuple):
    """A bound on the error of a run's model.

    Attributes:
        error: what its error is at most, with probability 1 - delta.
        bits: of the model's description.
        examples: that its training accuracy was measured on.
    """

    error: float
    bits: float
    examples: int


@dataclass(frozen=True)
class StudyPoint:
    """A study in Figures 4 and 5.

    Attributes:
        summary: it says something of d90, and its metric is accuracy.
        d90: as it is drawn.
        run: the run with the best evaluation accuracy, of all or of those at d90.
        gap: relative generalization gap of that run; None at an evaluation accuracy of 1.
        bound: on the error of the best run at d90; None if there is no d90, or the number of
            examples behind its training accuracy is unknown.
    """

    summary: Summary
    d90: ErrorBar
    run: TrialResult
    gap: float | None
    bound: Bound | None


def generalization(
    summaries: Sequence[Summary],
    *,
    runs: str = "best",
    delta: float = 0.05,
    links: tuple[tuple[str, str], ...] = (),
    command: str = "",
) -> Document:
    """Figures 4 and 5, and the bound of Theorem 1 for each point.

    Args:
        summaries: studies; those that say nothing of d90, or with a metric or a criterion other
            than accuracy, are left out and named in the warnings.
        runs: a name in `RUNS`.
        delta: probability that the bound fails.
        links, command: as in `Document`.
    """
    points = [
        _study_point(summary, d90, runs, delta)
        for summary in summaries
        if _is_comparable(summary) and summary.curve and (d90 := error_bar(summary))
    ]
    excluded = tuple(
        f"{_name(s)} is left out: {_why_excluded(s)}" for s in summaries if not _is_comparable(s)
    )
    figures = (_figure(points, "figure4", _accuracy), _figure(points, "figure5", _gap))
    claims = _claims(points) if points else []
    return Document(
        title="Figures 4 and 5: d90 and generalization",
        answer=_answer(claims) or "No study has a d90 in accuracy.",
        sentences=(
            "The paper claims that a smaller d90 goes with a higher evaluation accuracy and a "
            "smaller gap: a negative rho with accuracy, a positive one with the gap.",
            _bounds_sentence(points, delta),
        ),
        warnings=(*excluded, *missing_d90_warnings(summaries)),
        tables=(
            _table(points),
            correlation_table(claims),
            _bounds_table(points),
            studies_table(summaries, {}),
        ),
        figures=figures if points else (),
        links=links,
        command=command,
    )


def _is_comparable(summary: Summary) -> bool:
    """Whether its d90 is one of accuracy, as the paper's are."""
    return not _why_excluded(summary)


def _why_excluded(summary: Summary) -> str:
    if summary.objective:
        return "it is no model on a task"
    if summary.metric != "accuracy":
        return f"its metric is {summary.metric}"
    return "" if summary.is_papers else f"it measures {summary.quantity}"


def _name(summary: Summary) -> str:
    return summary.objective or f"{short_name(summary.model)} on {short_name(summary.task)}"


def _study_point(summary: Summary, d90: ErrorBar, runs: str, delta: float) -> StudyPoint:
    results = valid_results(summary.trials)
    trained_d = _trained_d(summary, d90.value)
    at_d90 = _best([result for result in results if result.trial.d == trained_d])
    run = _best(results) if runs == "best" else at_d90
    metric, train_metric = run.metric, run.train_metric
    gap = None
    if metric is not None and train_metric is not None and metric < 1:
        gap = relative_generalization_gap(train_metric, metric)
    return StudyPoint(summary, d90, run, gap, _bound(summary, at_d90, delta))


def _trained_d(summary: Summary, d90: int) -> int:
    """The smallest d with a run that trained, from d90 on; the largest one where there is none."""
    dims = [point.d for point in summary.curve]
    return min((d for d in dims if d >= d90), default=dims[-1])


def _best(results: Sequence[TrialResult]) -> TrialResult:
    return max(results, key=lambda result: result.metric or 0.0)


def _bound(summary: Summary, run: TrialResult, delta: float) -> Bound | None:
    """Theorem 1 for the best run from d90 on, given by its parameters and how it was chosen."""
    examples = summary.examples.get("train_metric")
    if examples is None or run.train_metric is None or summary.d90 is None:
        return None
    bits = description_bits(run.trial)
    error = occam_hoeffding(1 - run.train_metric, bits=bits, examples=examples, delta=delta)
    return Bound(error, bits, examples)


def description_bits(trial: Trial) -> float:
    """Bits of a run's model: its d parameters, and every choice made from data.

    The choices: d, the seed and the learning rate, of all that there are; the epoch, and the
    criterion that it is the best by.
    """
    d = trial.d or 0
    choices = run_code_lengths(d=d, seed=trial.seed, lists=CHOICES)
    return d * BITS + math.fsum(choice.bits for choice in choices)


def _accuracy(point: StudyPoint) -> float | None:
    return point.run.metric


def _gap(point: StudyPoint) -> float | None:
    return point.gap


QUANTITIES: Mapping[Callable[[StudyPoint], float | None], tuple[str, Literal[-1, 1]]] = {
    _accuracy: ("evaluation accuracy", -1),
    _gap: ("relative generalization gap", 1),
}
"""Each with the sign of its correlation with d90, by the paper."""


def _claims(points: Sequence[StudyPoint]) -> list[Claim]:
    """d90 with each quantity: over all studies, and within each task and method."""
    groups = {"all studies": list(points)}
    for point in points:
        groups.setdefault(task_and_method(point.summary), []).append(point)
    if len(groups) == 2:
        del groups["all studies"]
    return [
        Claim(f"d90 and {name}", sign, group, _correlation(points, quantity))
        for quantity, (name, sign) in QUANTITIES.items()
        for group, points in groups.items()
    ]


def _correlation(
    points: Sequence[StudyPoint], quantity: Callable[[StudyPoint], float | None]
) -> Correlation | None:
    return correlate((p.summary, y) for p in points if (y := quantity(p)) is not None)


def _answer(claims: Sequence[Claim]) -> str:
    """The correlations over the most points."""
    first = {claim.quantity: claim for claim in reversed(claims)}
    return "; ".join(f"{c.quantity}, {c.group}: {c}" for c in reversed(first.values()))


def _bounds_sentence(points: Sequence[StudyPoint], delta: float) -> str:
    known = [(point, point.bound) for point in points if point.bound is not None]
    if not known:
        return "No bound: the studies do not record how many examples they were trained on."
    vacuous = sum(bound.error >= 1 - point.summary.majority for point, bound in known)
    return (
        f"Theorem 1 with its constants: each bound holds with probability {1 - delta:g} for the "
        f"error of the best run at d90, at {BITS} bits per parameter and the code length of its d, "
        "seed, learning rate, epoch and criterion among all that there are, on the examples that "
        f"the training accuracy was measured on. {vacuous} of {len(known)} bounds are vacuous: no "
        "better than the majority class."
    )


def _table(points: Sequence[StudyPoint]) -> Table:
    names = short_names(point.summary.model for point in points)
    columns = ("task", "model", "method", *D90_COLUMNS, "run", "accuracy", "train accuracy", "gap")
    rows = tuple(
        (
            short_name(p.summary.task),
            names[p.summary.model],
            p.summary.method,
            *d90_values(p.summary),
            "full" if p.run.trial.d is None else f"d = {p.run.trial.d:,}",
            p.run.metric,
            p.run.train_metric,
            p.gap,
        )
        for p in points
    )
    return Table("generalization", "Generalization", columns, rows, **D90_FORMAT)


def _bounds_table(points: Sequence[StudyPoint]) -> Table:
    names = short_names(point.summary.model for point in points)
    columns = ("task", "model", "d90", "bits", "examples", "bound", "majority error", "vacuous")
    rows = tuple(
        _bound_row(point.summary, point.bound, names[point.summary.model])
        for point in points
        if point.bound is not None
    )
    return Table("bounds", "Theorem 1: a bound on the error of the best run at d90", columns, rows)


def _bound_row(summary: Summary, bound: Bound, name: str) -> tuple[Value, ...]:
    chance = 1 - summary.majority
    return (
        short_name(summary.task),
        name,
        summary.d90,
        math.ceil(bound.bits),
        bound.examples,
        bound.error,
        chance,
        "yes" if bound.error >= chance else "no",
    )


def _figure(
    points: Sequence[StudyPoint], name: str, quantity: Callable[[StudyPoint], float | None]
) -> Figure:
    label, _ = QUANTITIES[quantity]
    values = "; ".join(
        f"{short_name(p.summary.model)} on {short_name(p.summary.task)}: "
        f"{wording.answer(p.summary)}, {quantity(p) or math.nan:.3f}"
        for p in points
    )
    return Figure(
        name=name,
        caption=f"{label[0].upper()}{label[1:]} against d90, one point per study. {CAPTION}",
        alt_text=f"{label} against d90. {values}.",
        draw=partial(_draw, points, quantity, label),
    )


def _draw(
    points: Sequence[StudyPoint], quantity: Callable[[StudyPoint], float | None], label: str
) -> Drawing:
    figure = Drawing(figsize=(WIDTH, HEIGHT))
    names = short_names(point.summary.model for point in points)
    task_colors = colors(short_name(point.summary.task) for point in points)
    model_markers = markers(names.values())
    legend = color_handles(task_colors)
    if 1 < len(model_markers) <= MAX_MODELS:
        legend += marker_handles(model_markers)
    legend += error_bar_legend(point.d90 for point in points)
    axes = axes_over_legend(
        figure, legend, columns=LEGEND_COLUMNS, row=LEGEND_ROW, left=0.13, width=0.83
    )
    for point in points:
        height = quantity(point)
        if height is not None:
            draw_error_bar(
                axes,
                point.d90,
                height,
                along="x",
                color=task_colors[short_name(point.summary.task)],
                marker=model_markers[names[point.summary.model]],
            )
    axes.set_xlabel("d90")
    axes.set_ylabel(label)
    axes.margins(x=0.08, y=0.1)
    log_axis(axes, "x", (1, 3))
    return figure


def check_runs(runs: str) -> None:
    """Refuse a name that is not in `RUNS`.

    Raises:
        D90Error: listing the names.
    """
    if runs not in RUNS:
        raise D90Error(f"runs '{runs}': expected {' or '.join(RUNS)}.")
