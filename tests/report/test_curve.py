"""The curve: the same bytes each time, no overlapping labels, every kind of study drawn."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import matplotlib as mpl
import pytest
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from matplotlib.transforms import BboxBase
from tests.helpers.studies import every_kind, runs, study

from d90.report.curve import WIDTH, draw_curve, spread
from d90.report.plotting import STYLE, png, svg
from d90.search.summary import Summary


def curve_svg(summary: Summary) -> str:
    return svg(lambda: draw_curve(summary))


def curve_png(summary: Summary) -> bytes:
    return png(lambda: draw_curve(summary))


def text_boxes(summary: Summary) -> tuple[Mapping[str, BboxBase], BboxBase]:
    """Bounding boxes of every text of the figure and of the figure itself, in pixels."""
    with style.context(["default", STYLE]):
        figure = draw_curve(summary)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        outside = labels_outside(figure.axes[0])
        boxes = {
            f"{text.get_text()} ({i})": text.get_window_extent(canvas.get_renderer())
            for i, text in enumerate(figure.findobj(Text))
            if isinstance(text, Text) and is_drawn(text) and id(text) not in outside
        }
    return boxes, figure.bbox


def is_drawn(text: Text) -> bool:
    return text.get_visible() and bool(text.get_text())


def labels_outside(axes: Axes) -> set[int]:
    """Tick labels outside the view, which matplotlib keeps but does not draw."""
    outside = set()
    for axis in (axes.xaxis, axes.yaxis):
        low, high = axis.get_view_interval()
        for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
            if not low <= tick.get_loc() <= high:
                outside.add(id(tick.label1))
    return outside


@pytest.mark.parametrize("kind", every_kind())
def test_no_text_overlaps_or_leaves_the_figure(kind: str) -> None:
    boxes, whole = text_boxes(every_kind()[kind])
    names = list(boxes)
    for i, name in enumerate(names):
        box = boxes[name]
        assert whole.x0 <= box.x0 and box.x1 <= whole.x1, name
        assert whole.y0 <= box.y0 and box.y1 <= whole.y1, name
        for other in names[i + 1 :]:
            assert not box.overlaps(boxes[other]), (name, other)


def test_two_renders_are_equal() -> None:
    summary = every_kind()["seeds"]
    assert curve_svg(summary) == curve_svg(summary)
    assert curve_png(summary) == curve_png(summary)


def test_the_users_matplotlibrc_does_not_change_it() -> None:
    summary = every_kind()["ok"]
    usual = curve_svg(summary)
    with mpl.rc_context({"font.size": 20, "axes.grid": True, "svg.hashsalt": None}):
        assert curve_svg(summary) == usual


def test_fits_a_column() -> None:
    svg = curve_svg(every_kind()["ok"])
    assert f'width="{72 * WIDTH:g}pt"' in svg
    assert "<dc:date>" not in svg


def test_dollar_signs_are_not_math() -> None:
    assert curve_svg(study(runs([10]), metric="$broken"))


def test_many_rates_fit() -> None:
    rates = [0.0001 * 2**i for i in range(12)]
    boxes, whole = text_boxes(study(runs([10, 100, 2_000], rates)))
    assert all(whole.x0 <= box.x0 and box.x1 <= whole.x1 for box in boxes.values())


@pytest.mark.parametrize(
    "positions", [[0.0, 0.0, 0.0], [1.0, 0.99, 0.98], [0.5, 0.52, 0.9], [0.2], []]
)
def test_spread_keeps_labels_apart_in_order_and_below_the_top(positions: list[float]) -> None:
    placed = spread(positions, gap=0.1, top=1.0)
    order = sorted(range(len(positions)), key=lambda i: positions[i])
    gaps = [placed[b] - placed[a] for a, b in pairwise(order)]
    assert all(gap >= 0.1 - 1e-12 for gap in gaps)
    assert all(place <= 1.0 for place in placed)
