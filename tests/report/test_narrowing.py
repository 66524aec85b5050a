"""How the report shows an interval that narrows run by run."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from tests.helpers.studies import HISTORY, every_kind

from d90.report import study_document
from d90.report.narrowing import narrowing_figure, narrowing_table


def points_of(axes: Axes) -> list[tuple[float, float]]:
    """The single points that are drawn, of bars, caps, arrows and medians."""
    data = (np.asarray(line.get_xydata(), dtype=float) for line in axes.lines)
    return [(x, y) for xy in data if len(xy) == 1 for x, y in xy.tolist()]


def test_each_run_has_its_interval_and_its_d() -> None:
    drawing = narrowing_figure(every_kind()["adaptive"]).draw()
    axes = drawing.axes[0]
    points = points_of(axes)
    # The history is of the last five of six runs; the first of them left both ends open.
    assert not [x for x, _ in points if x <= 2]
    # Medians, caps, and arrows at the ends of the range of d, from 10 to 193.
    assert {y for x, y in points if x == 3} == {10, 27}
    assert {y for x, y in points if x == 4} == {60, 12, 193}
    assert {y for x, y in points if x == 5} == {35, 21, 72}
    (rings,) = (
        np.asarray(line.get_xydata(), dtype=float)
        for line in axes.lines
        if len(np.asarray(line.get_xdata())) == len(HISTORY) - 1
    )
    assert rings.tolist() == [[3, 1_389], [4, 10], [5, 72], [6, 27]]
    labels = [text.get_text() for text in drawing.legends[0].get_texts()]
    assert labels == ["d of the run", "95% interval", "beyond the range of d"]


def test_the_table_has_a_row_per_run() -> None:
    cells = narrowing_table(every_kind()["adaptive"]).cells
    assert cells == [
        ["2", "full", "0.0001", "–"],
        ["3", "1,389", "0.01", "– (27 or less)"],
        ["4", "10", "0.01", "60 (12 or more)"],
        ["5", "72", "0.005", "35 (21-72)"],
        ["6", "27", "0.01", "35 (27-51)"],
    ]


def test_only_studies_with_a_history_have_them() -> None:
    with_it, without = (study_document(every_kind()[kind]) for kind in ("adaptive", "ok"))
    assert [figure.name for figure in with_it.figures] == ["curve", "narrowing"]
    assert "Interval after each run" in [table.title for table in with_it.tables]
    assert [figure.name for figure in without.figures] == ["curve"]
    assert "Interval after each run" not in [table.title for table in without.tables]
