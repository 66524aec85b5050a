"""What figures draw of a d90: values, ends, arrows, and what matplotlib is given."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure as Drawing
from matplotlib.lines import Line2D
from tests.helpers.studies import EIGHT, every_kind, runs, study

from d90.report.document import Document
from d90.report.error_bar import ErrorBar, draw_error_bar, error_bar, error_bar_legend
from d90.report.paper.figure1 import curves
from d90.report.paper.figure2 import Checkpoint, trajectory
from d90.report.paper.figure3 import scaling
from d90.report.paper.figures4_5 import generalization
from d90.search.summary import Summary


def of(status: str, d90: int | None, interval: Any, band: bool = True) -> Summary:
    """A study of d from 10 to 10,000 with this answer."""
    summary = study(runs(EIGHT), status=status, d90=d90, interval=interval)
    return summary if band else replace(summary, band=())


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (("ok", 160, (105, 253)), ErrorBar(160, 105, 253)),
        (("ok", 160, None), ErrorBar(160, 160, 160)),
        (("ok", 160, (None, 253)), ErrorBar(160, 10, 253, opens_down=True)),
        (("ok", 160, (105, None)), ErrorBar(160, 105, 10_000, opens_up=True)),
        (
            ("above-maximum", None, (5_000, None)),
            ErrorBar(10_000, 5_000, 10_000, opens_up=True, is_censored=True),
        ),
        (
            ("at-minimum", None, (None, 14)),
            ErrorBar(10, 10, 14, opens_down=True, is_censored=True),
        ),
        # Of a format without an interval.
        (
            ("above-maximum", None, None, False),
            ErrorBar(10_000, 10_000, 10_000, opens_up=True, is_censored=True),
        ),
        (("trivial-threshold", None, None), None),
        (("unstable", None, None), None),
        (("optimization-limited", None, None), None),
    ],
)
def test_what_is_drawn(answer: tuple[Any, ...], expected: ErrorBar | None) -> None:
    assert error_bar(of(*answer)) == expected


def test_a_study_without_trials_says_nothing() -> None:
    assert error_bar(every_kind()["nothing"]) is None


def lines_of(bar: ErrorBar, along: Any) -> list[Line2D]:
    axes = Drawing().add_subplot()
    draw_error_bar(axes, bar, 7.0, along=along, color="red")
    return list(axes.lines)


def xy(line: Line2D) -> np.ndarray:
    return np.asarray(line.get_xydata(), dtype=float)


def tip_of(arrow: Any) -> list[float]:
    return arrow.get_marker().vertices[1].tolist()


@pytest.mark.parametrize("along", ["x", "y"])
def test_bar_caps_point_and_arrows_on_either_axis(along: Any) -> None:
    lines = lines_of(ErrorBar(160, 105, 10_000, opens_up=True), along)
    data = [xy(line) if along == "x" else xy(line)[:, ::-1] for line in lines]
    assert [points.tolist() for points in data] == [
        [[105, 7], [10_000, 7]],
        [[105, 7]],
        [[10_000, 7]],
        [[160, 7]],
    ]
    bar, cap, arrow, point = lines
    assert bar.get_linestyle() == "-"
    assert cap.get_marker() == ("|" if along == "x" else "_")
    assert tip_of(arrow) == ([1, 0] if along == "x" else [0, 1])
    assert point.get_markerfacecolor() == "red"


def test_the_arrow_of_a_censored_study_points_away_and_its_point_is_hollow() -> None:
    down = ErrorBar(10, 10, 10, opens_down=True, is_censored=True)
    for along, tip in (("x", [-1, 0]), ("y", [0, -1])):
        arrow, point = lines_of(down, along)
        assert tip_of(arrow) == tip
        assert point.get_markerfacecolor() == "white"


def test_the_legend_names_only_what_is_drawn() -> None:
    bar, plain = ErrorBar(160, 105, 253), ErrorBar(160, 160, 160)
    censored = ErrorBar(10, 10, 10, opens_down=True, is_censored=True)

    def labels(*bars: ErrorBar | None) -> list[object]:
        return [handle.get_label() for handle in error_bar_legend(bars)]

    assert labels(plain, None) == []
    assert labels(bar, plain) == ["95% interval"]
    assert labels(censored) == ["beyond the range of d"]
    assert labels(bar, censored) == ["95% interval", "beyond the range of d"]


def some() -> list[Summary]:
    """A study with an interval, one without (an older format), and two censored ones."""
    size = {"train": 1000, "train_metric": 400, "metric": 400}
    studies = [
        of("ok", 160, (105, 253)),
        of("ok", 300, None),
        of("above-maximum", None, (5_000, None)),
        of("at-minimum", None, (None, 14)),
    ]
    return [
        replace(s, model=f"model-{i}", D=10 ** (i + 6), examples=size)
        for i, s in enumerate(studies)
    ]


DOCUMENTS = {
    "figure1": (curves, "x"),
    "figure2": (
        lambda s: trajectory([Checkpoint(100 * i, None, each) for i, each in enumerate(s)]),
        "y",
    ),
    "figure3": (scaling, "y"),
    "figure4": (generalization, "x"),
    "figure5": (generalization, "x"),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_figure_draws_all_of_them(name: str) -> None:
    make, along = DOCUMENTS[name]
    document: Document = make(some())
    figure = next(f for f in document.figures if f.name == name)
    drawing = figure.draw()
    single = [
        xy(line)[0, 0 if along == "x" else 1]
        for line in drawing.axes[0].lines
        if len(xy(line)) == 1
    ]
    # Each point; the caps of closed ends; and the arrows, at the ends of the range of d.
    for d, times in ((160, 1), (105, 1), (253, 1), (300, 1), (5_000, 1), (14, 1)):
        assert single.count(d) == times, d
    assert single.count(10_000) == single.count(10) == 2
    labels = [text.get_text() for text in drawing.legends[0].get_texts()]
    assert {"95% interval", "beyond the range of d"} <= set(labels)
    assert "hollow" in figure.caption
    assert ">" in figure.alt_text and "≤" in figure.alt_text


def test_a_line_along_pretraining_breaks_at_a_censored_checkpoint() -> None:
    studies = some()
    order = [studies[0], studies[2], studies[1]]
    document = trajectory([Checkpoint(100 * i, None, s) for i, s in enumerate(order)])
    (line,) = (xy(a) for a in document.figures[0].draw().axes[0].lines if len(xy(a)) == 3)
    assert np.isnan(line[:, 1]).tolist() == [False, True, False]


def test_tables_show_the_interval_behind_d90_and_the_first_d_that_passes() -> None:
    table = next(t for t in scaling(some()).tables if t.name == "figure3")
    column = table.header.index("d90")
    assert [row[column] for row in table.cells] == [
        "160 (105-253)",
        "300",
        "– (5,000 or more)",
        "– (14 or less)",
    ]
    assert table.header[column + 1] == "first passing d"
    assert {row[column + 1] for row in table.cells} == {"72"}
    assert table.is_text[column] is False
    assert table.csv().splitlines()[:2] == [
        "task,model,family,method,D,d90,low,high,first_passing_d",
        "mrpc,model-0,,said,1000000,160,105,253,72",
    ]
