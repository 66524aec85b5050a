"""Compare studies by their summaries: a Markdown table and a figure.

    python scripts/compare_studies.py best OUT.svg tensor=reports/tensor model=reports/model
    python scripts/compare_studies.py rates OUT.svg SST-2=reports/sst2

`best` plots the best metric against d, one line per study; `rates` plots the metric of one study
against the learning rate, one line per d. A PNG is written beside the SVG.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from d90.report.plotting import STYLE
from d90.search.summary import Summary
from d90.search.trial import TrialResult

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#222222")
MARKERS = "osD^vPX"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["best", "rates"])
    parser.add_argument("figure", type=Path)
    parser.add_argument("studies", nargs="+", metavar="LABEL=FOLDER")
    arguments = parser.parse_args()
    studies = {
        label: Summary.load(folder)
        for label, folder in (text.split("=", 1) for text in arguments.studies)
    }
    arguments.figure.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.style.context(["default", STYLE]):
        _draw(arguments.kind, studies).savefig(arguments.figure, metadata={"Date": None})
        _draw(arguments.kind, studies).savefig(arguments.figure.with_suffix(".png"), dpi=200)
    print(_best_table(studies) if arguments.kind == "best" else _rates_table(_first(studies)))


def _draw(kind: str, studies: dict[str, Summary]) -> Figure:
    figure = Figure(figsize=(3.6, 2.8), layout="constrained")
    axes = figure.add_subplot()
    if kind == "best":
        _draw_best(axes, studies)
    else:
        _draw_rates(axes, _first(studies))
    style = {"frameon": False, "handlelength": 1, "columnspacing": 0.8}
    figure.legend(loc="outside lower center", ncols=4, **style)
    return figure


def _first(studies: dict[str, Summary]) -> Summary:
    return next(iter(studies.values()))


def _runs(summary: Summary, d: int, rate: float | None = None) -> list[TrialResult]:
    return [
        r
        for r in summary.trials
        if r.trial.d == d and (rate is None or r.trial.learning_rate == rate)
    ]


def _dims(summaries: Iterable[Summary]) -> list[int]:
    return sorted({r.trial.d for s in summaries for r in s.trials if r.trial.d is not None})


def _best_table(studies: dict[str, Summary]) -> str:
    dims = _dims(studies.values())
    header = ["study", "full", *(f"d = {d:,}" for d in dims), "d90"]
    rows = [
        [label, _number(s.full_metric), *(_best(s, d) for d in dims), _answer(s)]
        for label, s in studies.items()
    ]
    return _markdown(header, rows)


def _best(summary: Summary, d: int) -> str:
    """The best metric at d and its learning rate: the mean over seeds of the best of each."""
    point = next((p for p in summary.curve if p.d == d), None)
    if point is None:
        return "none trained" if _runs(summary, d) else "-"
    top = max((r for r in _runs(summary, d) if r.is_valid), key=lambda r: r.metric or 0)
    return f"{point.best:.3f} ({top.trial.learning_rate:g})"


def _rates_table(summary: Summary) -> str:
    rates = _rates(summary)
    header = ["d", *(f"{rate:g}" for rate in rates)]
    return _markdown(
        header,
        [[f"{d:,}", *(_mean(_runs(summary, d, rate)) for rate in rates)] for d in _dims([summary])],
    )


def _rates(summary: Summary) -> list[float]:
    return sorted({r.trial.learning_rate for r in summary.trials if r.trial.d is not None})


def _mean(runs: Sequence[TrialResult]) -> str:
    """Mean over seeds of the valid runs; the statuses of the others are named."""
    good = [r.metric for r in runs if r.is_valid and r.metric is not None]
    bad = sorted({r.status for r in runs if not r.is_valid})
    return " ".join(([f"{fmean(good):.3f}"] if good else []) + bad) or "-"


def _draw_best(axes: Axes, studies: dict[str, Summary]) -> None:
    for (label, s), color, marker in zip(studies.items(), COLORS, MARKERS, strict=False):
        x, y = [p.d for p in s.curve], [p.best for p in s.curve]
        axes.plot(x, y, color=color, marker=marker, ms=4, lw=1, label=label)
    _draw_levels(axes, _first(studies))
    axes.set(xscale="log", xlabel="d")


def _draw_rates(axes: Axes, summary: Summary) -> None:
    for d, color, marker in zip(_dims([summary]), COLORS, MARKERS, strict=False):
        points = [
            (rate, fmean(r.metric for r in runs if r.metric is not None))
            for rate in _rates(summary)
            if (runs := [r for r in _runs(summary, d, rate) if r.metric is not None])
        ]
        axes.plot(
            [x for x, _ in points],
            [y for _, y in points],
            color=color, marker=marker, ms=4, lw=1, label=f"d = {d:,}",
        )  # fmt: skip
    _draw_levels(axes, summary)
    axes.set(xscale="log", xlabel="learning rate (as given; normalized in d)")
    axes.set_xticks(_rates(summary), [f"{rate:g}" for rate in _rates(summary)])
    axes.minorticks_off()


def _draw_levels(axes: Axes, summary: Summary) -> None:
    axes.set_ylabel(summary.metric)
    levels = (
        ("full", summary.full_metric),
        ("90%", summary.threshold),
        ("majority", summary.majority),
    )
    for (name, level), style in zip(levels, ("-", "--", ":"), strict=True):
        if level is not None:
            axes.axhline(level, color="#666666", lw=0.8, ls=style)
            axes.annotate(
                name, (1, level), xycoords=("axes fraction", "data"), xytext=(2, 0),
                textcoords="offset points", va="center", fontsize=7, color="#666666",
            )  # fmt: skip


def _answer(summary: Summary) -> str:
    return f"{summary.d90:,}" if summary.d90 is not None else summary.status


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    main()
