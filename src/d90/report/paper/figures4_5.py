"""The paper's Figures 4 and 5: what d90 says of generalization, with Theorem 1 beside them.

Sizes are in inches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from matplotlib.figure import Figure as Drawing

from d90.bounds import occam_hoeffding
from d90.errors import D90Error
from d90.report.document import Document, Figure, Table, Value
from d90.report.plotting import INK, colors, log_axis, markers
from d90.report.study_table import (
    cells_table,
    correlation_table,
    line,
    short_name,
    short_names,
    without_d90,
)
from d90.search.correlation import Correlation, spearman
from d90.search.curve import valid_results
from d90.search.estimate import relative_generalization_gap
from d90.search.summary import Summary
from d90.search.trial import TrialResult

WIDTH, HEIGHT = 4.4, 3.3
MOST_SHAPES = 6
"""Models that the legend names; more of them share it with their tasks alone."""

BITS = 32
"""Bits of each trained number: as it was trained, in float32."""

RUNS = ("best", "d90")
"""Whose accuracies: the run with the best evaluation metric of the study, or of those at d90."""


@dataclass(frozen=True)
class StudyPoint:
    """A study in Figures 4 and 5.

    Attributes:
        summary: it has a d90, and its metric is accuracy.
        run: the run with the best evaluation accuracy, of all or of those at d90.
        gap: relative generalization gap of that run; None at an evaluation accuracy of 1.
        bound: on the error of the best run at d90, with probability 1 - delta; None where the
            number of examples behind its training accuracy is not known.
    """

    summary: Summary
    run: TrialResult
    gap: float | None
    bound: float | None


def generalization(
    summaries: Sequence[Summary],
    *,
    runs: str = "best",
    delta: float = 0.05,
    bits: int = BITS,
    links: tuple[tuple[str, str], ...] = (),
    command: str = "",
) -> Document:
    """Figures 4 and 5, and the bound of Theorem 1 for each point.

    Args:
        summaries: studies; those without a d90, or of another metric than accuracy, are named.
        runs: a name in `RUNS`.
        delta: how often the bound may fail.
        bits: of each trained number.
        links, command: as in `Document`.
    """
    placed = [
        _place(summary, runs, delta, bits)
        for summary in summaries
        if summary.d90 is not None and summary.metric == "accuracy"
    ]
    others = tuple(
        f"{short_name(s.model)} on {short_name(s.task)} is left out: its metric is {s.metric}"
        for s in summaries
        if s.metric != "accuracy"
    )
    figures = (_figure(placed, "figure4", _accuracy), _figure(placed, "figure5", _gap))
    found = _correlations(placed)
    return Document(
        title="Figures 4 and 5: d90 and generalization",
        answer=_answer(found) if placed else "No study has a d90 in accuracy.",
        sentences=(
            "The paper finds that a smaller d90 goes with a higher evaluation accuracy and a "
            "smaller gap: a negative rho with accuracy, a positive one with the gap.",
            _bounds_sentence(placed, delta, bits),
        ),
        warnings=(*others, *without_d90(summaries)),
        tables=(
            _table(placed),
            correlation_table(found if placed else ()),
            _bounds_table(placed, bits),
            cells_table(summaries, {}),
        ),
        figures=figures if placed else (),
        links=links,
        command=command,
    )


def _place(summary: Summary, runs: str, delta: float, bits: int) -> StudyPoint:
    everything = valid_results(summary.trials)
    at_d90 = _best([result for result in everything if result.trial.d == summary.d90])
    run = _best(everything) if runs == "best" else at_d90
    evaluated, trained = run.metric, run.train_metric
    gap = None
    if evaluated is not None and trained is not None and evaluated < 1:
        gap = relative_generalization_gap(trained, evaluated)
    return StudyPoint(summary, run, gap, _bound(summary, at_d90, delta, bits))


def _best(results: Sequence[TrialResult]) -> TrialResult:
    return max(results, key=lambda result: result.metric or 0.0)


def _bound(summary: Summary, run: TrialResult, delta: float, bits: int) -> float | None:
    """Theorem 1 for the best run at d90: its numbers, and which of the study's runs it is."""
    examples = summary.examples.get("train_metric")
    if examples is None or run.train_metric is None or summary.d90 is None:
        return None
    paid = described_bits(summary, bits)
    return occam_hoeffding(1 - run.train_metric, bits=paid, examples=examples, delta=delta)


def described_bits(summary: Summary, bits: int) -> float:
    """Bits that describe the best run at d90: d numbers, and every choice made by looking.

    The choices are which run of the study (its d, learning rate and seed) and which of its epochs.
    """
    epochs = _most_epochs(summary)
    return (summary.d90 or 0) * bits + math.log2(len(summary.trials)) + math.log2(epochs)


def _most_epochs(summary: Summary) -> int:
    training = summary.settings.get("training", {})
    if training.get("max_steps"):
        size = training.get("batch_size", 1) * training.get("gradient_accumulation_steps", 1)
        an_epoch = math.ceil(summary.examples.get("train", 1) / size)
        return max(1, math.ceil(training["max_steps"] / an_epoch))
    return max(1, training.get("epochs", 1))


def _accuracy(place: StudyPoint) -> float | None:
    return place.run.metric


def _gap(place: StudyPoint) -> float | None:
    return place.gap


QUANTITIES: Mapping[Callable[[StudyPoint], float | None], str] = {
    _accuracy: "evaluation accuracy",
    _gap: "relative generalization gap",
}


def _correlations(placed: Sequence[StudyPoint]) -> list[tuple[str, str, Correlation | None]]:
    """Of each quantity with d90: over everything, and within each task and method."""
    groups = {"everything": list(placed)}
    for place in placed:
        groups.setdefault(line(place.summary), []).append(place)
    if len(groups) == 2:
        del groups["everything"]
    return [
        (f"d90 with {name}", group, _correlation(places, quantity))
        for quantity, name in QUANTITIES.items()
        for group, places in groups.items()
    ]


def _correlation(
    places: Sequence[StudyPoint], quantity: Callable[[StudyPoint], float | None]
) -> Correlation | None:
    points = [(p.summary.d90 or 0, y) for p in places if (y := quantity(p)) is not None]
    return spearman(*zip(*points, strict=True)) if points else None


def _answer(found: Sequence[tuple[str, str, Correlation | None]]) -> str:
    """The correlations over the most points."""
    first = {quantity: (group, rho) for quantity, group, rho in reversed(found)}
    parts = [
        f"{quantity}, {group}: {rho or 'no correlation'}"
        for quantity, (group, rho) in reversed(first.items())
    ]
    return "; ".join(parts) or "No study has a d90 in accuracy."


def _bounds_sentence(placed: Sequence[StudyPoint], delta: float, bits: int) -> str:
    known = [place for place in placed if place.bound is not None]
    if not known:
        return "No bound: the studies do not say on how many examples they trained."
    vacuous = sum((place.bound or 0) >= 1 - place.summary.majority for place in known)
    return (
        f"Theorem 1 with its constants: with probability {1 - delta:g} each, the error of the best "
        f"run at d90 is at most its bound, at {bits} bits a number, with log2 of the number of "
        f"runs and epochs to choose among paid for, on the examples that the training accuracy "
        f"was measured on. {vacuous} of {len(known)} bounds are vacuous: no better than the "
        "majority class."
    )


def _table(placed: Sequence[StudyPoint]) -> Table:
    names = short_names(place.summary.model for place in placed)
    columns = ("task", "model", "method", "d90", "run", "accuracy", "train accuracy", "gap")
    rows = tuple(
        (
            short_name(p.summary.task),
            names[p.summary.model],
            p.summary.method,
            p.summary.d90,
            "full" if p.run.trial.d is None else f"d = {p.run.trial.d:,}",
            p.run.metric,
            p.run.train_metric,
            p.gap,
        )
        for p in placed
    )
    return Table("generalization", "Generalization", columns, rows)


def _bounds_table(placed: Sequence[StudyPoint], bits: int) -> Table:
    names = short_names(place.summary.model for place in placed)
    columns = ("task", "model", "d90", "bits", "examples", "bound", "majority error", "vacuous")
    rows = tuple(_bound_row(place, names, bits) for place in placed if place.bound is not None)
    return Table("bounds", "Theorem 1: a bound on the error of the best run at d90", columns, rows)


def _bound_row(place: StudyPoint, names: Mapping[str, str], bits: int) -> tuple[Value, ...]:
    summary, chance = place.summary, 1 - place.summary.majority
    return (
        short_name(summary.task),
        names[summary.model],
        summary.d90,
        math.ceil(described_bits(summary, bits)),
        summary.examples.get("train_metric"),
        place.bound,
        chance,
        "yes" if (place.bound or 0) >= chance else "no",
    )


def _figure(
    placed: Sequence[StudyPoint], name: str, quantity: Callable[[StudyPoint], float | None]
) -> Figure:
    label = QUANTITIES[quantity]
    found = "; ".join(
        f"{short_name(p.summary.model)} on {short_name(p.summary.task)}: d90 = {p.summary.d90:,}, "
        f"{quantity(p) or math.nan:.3f}"
        for p in placed
    )
    return Figure(
        name=name,
        caption=f"{label[0].upper()}{label[1:]} against d90, one point a study.",
        alt_text=f"{label} against d90. {found}.",
        draw=partial(_draw, placed, quantity, label),
    )


def _draw(
    placed: Sequence[StudyPoint], quantity: Callable[[StudyPoint], float | None], label: str
) -> Drawing:
    figure = Drawing(figsize=(WIDTH, HEIGHT))
    axes = figure.add_axes((0.13, 0.27, 0.83, 0.69))
    names = short_names(place.summary.model for place in placed)
    shades = colors(short_name(place.summary.task) for place in placed)
    shapes = markers(names.values())
    for place in placed:
        height = quantity(place)
        if height is not None and place.summary.d90 is not None:
            shape, shade = names[place.summary.model], short_name(place.summary.task)
            look = {"color": shades[shade], "marker": shapes[shape], "markersize": 4.5}
            axes.plot(place.summary.d90, height, linestyle="none", alpha=0.9, **look)
    axes.set_xlabel("d90")
    axes.set_ylabel(label)
    axes.margins(x=0.08, y=0.1)
    log_axis(axes, "x", (1, 3))
    for task, shade in shades.items():
        axes.plot([], [], color=shade, linewidth=3, label=task)
    if 1 < len(shapes) <= MOST_SHAPES:
        for name, shape in shapes.items():
            axes.plot([], [], shape, color=INK, label=name, markersize=4)
    figure.legend(loc="lower center", ncols=3, frameon=False)
    return figure


def check_runs(runs: str) -> None:
    """Refuse another name than those of `RUNS`.

    Raises:
        D90Error: naming both.
    """
    if runs not in RUNS:
        raise D90Error(f"runs '{runs}': expected {' or '.join(RUNS)}.")
