"""What every figure shares: its style, its colors, its axes and how it becomes bytes.

The same figure gives the same bytes, whatever the user's own matplotlib settings.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import LogLocator, NullFormatter

from d90.errors import printable

PNG_DPI = 300

INK, SOFT = "#222222", "#666666"
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#a87900", "#4aa3df", "#7a4fa3", "#555555")
"""Okabe and Ito's palette, the light colors darkened: distinct for color-blind readers too."""

MARKERS = "osD^vPX*"

STYLE = {
    "font.size": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.labelpad": 2,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "text.parse_math": False,  # A name may have two dollar signs.
    "svg.hashsalt": "d90",
    "svg.fonttype": "path",
}


def svg(draw: Callable[[], Figure]) -> str:
    """The figure as SVG; text is drawn as outlines, so that it looks the same everywhere."""
    return _render(draw, "svg", metadata={"Date": None, "Creator": "d90"}).decode("utf-8")


def png(draw: Callable[[], Figure]) -> bytes:
    """The figure as PNG, 300 dots per inch."""
    return _render(draw, "png", dpi=PNG_DPI, metadata={"Software": "d90"})


def colors(names: Iterable[str]) -> dict[str, str]:
    """A color for each name, in order of first appearance; they repeat after eight."""
    distinct = dict.fromkeys(names)
    return {name: COLORS[i % len(COLORS)] for i, name in enumerate(distinct)}


def markers(names: Iterable[str]) -> dict[str, str]:
    """A marker for each name, in order of first appearance; they repeat after eight."""
    distinct = dict.fromkeys(names)
    return {name: MARKERS[i % len(MARKERS)] for i, name in enumerate(distinct)}


def color_handles(names: Mapping[str, str]) -> list[Line2D]:
    """Legend entries of the colors that have a name."""
    return [Line2D([], [], color=color, linewidth=3, label=name) for name, color in names.items()]


def marker_handles(names: Mapping[str, str]) -> list[Line2D]:
    """Legend entries of the markers that have a name."""
    return [
        Line2D([], [], marker=marker, linestyle="none", color=INK, markersize=4, label=name)
        for name, marker in names.items()
    ]


def axes_over_legend(
    figure: Figure,
    handles: Sequence[Line2D],
    *,
    columns: int,
    row: float,
    left: float,
    width: float,
) -> Axes:
    """Axes above a legend, which has room for as many rows as it has.

    Args:
        figure: without axes.
        handles: entries of the legend.
        columns: of the legend.
        row: height of a row of the legend, as `left` and `width` of the axes a fraction of the
            figure.
    """
    bottom = 0.14 + row * math.ceil(len(handles) / columns)
    figure.legend(handles=list(handles), loc="lower center", ncols=columns, frameon=False)
    return figure.add_axes((left, bottom, width, 0.96 - bottom))


def log_axis(axes: Axes, which: Literal["x", "y"], subs: Sequence[float] | None = None) -> None:
    """Make an axis logarithmic, with short labels at its major ticks and none at the others.

    Args:
        axes: whose axis it is.
        which: `x` or `y`.
        subs: multiples of each power of ten that have a major tick; by default 1, 2 and 5 where
            the axis, as it is now, spans fewer than 1.5 decades, else 1.
    """
    axes.set(**{f"{which}scale": "log"})
    axis = axes.xaxis if which == "x" else axes.yaxis
    if subs is None:
        low, high = axis.get_view_interval()
        subs = (1, 2, 5) if math.log10(high / low) < 1.5 else (1,)
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(tick_label)
    axis.set_minor_formatter(NullFormatter())


def tick_label(value: float, position: float | None = None) -> str:
    """A tick's label, as matplotlib calls it: 10, 500, 1k, 20k, 4M, 7B.

    >>> [tick_label(value) for value in (10, 1_000, 20_000, 4_000_000, 7_000_000_000)]
    ['10', '1k', '20k', '4M', '7B']
    """
    for size, letter in ((1_000_000_000, "B"), (1_000_000, "M"), (1_000, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def _render(draw: Callable[[], Figure], form: str, **options: Any) -> bytes:
    out = io.BytesIO()
    # From matplotlib's own defaults: a reader's matplotlibrc does not change the report.
    with matplotlib.style.context(["default", STYLE]):
        figure = draw()
        for text in figure.findobj(Text):
            assert isinstance(text, Text)
            text.set_text(printable(text.get_text()))
        figure.savefig(out, format=form, **options)
    return out.getvalue()
