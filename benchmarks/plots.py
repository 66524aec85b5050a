"""The figures of docs/performance, as wide as a column of a paper, drawn from entries alone.

Sizes are in inches unless said otherwise. The same entries give the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from benchmarks.entries import Entry, find
from benchmarks.kernels import FULL_LENGTH, OPERATIONS
from benchmarks.memory import allowed
from benchmarks.tables import number
from benchmarks.training import PEAK, WEIGHTS_LIKE
from d90.report.curve import FULL, MAJORITY, THRESHOLD, WIDTH
from d90.report.plotting import INK, PNG_DPI, STYLE, log_axis

COLORS = {
    "fastfood": FULL,
    "onehot": "#d55e00",
    "sparse": "#007a5e",
    "dense": "#aa4a85",
    FULL_LENGTH: INK,
    "copy": MAJORITY,
}
"""From Okabe and Ito's palette, dark enough for thin lines."""

PROJECTIONS = ("fastfood", "onehot", "sparse", "dense", FULL_LENGTH)
LINES: dict[str, Any] = {"apply": "-", "adjoint": "--"}
MARKERS = {"apply": "o", "adjoint": "s"}
TARGET_LOOK: dict[str, Any] = {"linestyle": "none", "marker": "_", "markersize": 9}
LIGHT, OTHER = "#b9d3e6", "#aaaaaa"
LEGEND = 0.4
SMALLEST_MB = 0.01
APART = 1.2
"""Factor between the x of one projection's points and the next one's, to tell them apart."""


def draw(entries: Sequence[Entry], folder: Path) -> dict[str, str]:
    """Draw the figures that have entries, as SVG and PNG.

    Returns:
        The title of each, by its name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {}
    # From matplotlib's own defaults: a reader's matplotlibrc does not change the figures.
    with matplotlib.style.context(["default", STYLE]):
        for name, (title, make, kind) in FIGURES.items():
            if find(entries, kind=kind):
                _save(make(entries), folder / name)
                drawn[name] = title
    return drawn


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(f"{path}.svg", metadata={"Date": None, "Creator": "d90"})
    figure.savefig(f"{path}.png", dpi=PNG_DPI, metadata={"Software": "d90"})


def _panels(titles: Sequence[str], height: float) -> tuple[Figure, list[Axes]]:
    """Panels under one another, the title of each above its left corner."""
    figure = Figure(figsize=(WIDTH, height * len(titles) + LEGEND), layout="constrained")
    panels = [figure.add_subplot(len(titles), 1, i + 1) for i in range(len(titles))]
    for axes, title in zip(panels, titles, strict=True):
        axes.set_title(title, loc="left", fontsize=8)
    return figure, panels


def _cost_against_d(entries: Sequence[Entry]) -> Figure:
    figure, panels = _panels(OPERATIONS, height=1.6)
    selected = find(entries, kind="kernel")
    for axes, op in zip(panels, OPERATIONS, strict=True):
        for order, projection in enumerate(PROJECTIONS):
            line = find(selected, projection=projection, operation=op)
            color = COLORS[projection]
            axes.plot(*_points(line, "d"), marker="o", markersize=3, linewidth=0.9, color=color)
            targets = [(e.about["d"], e.at_most) for e in line if e.at_most is not None]
            if targets:
                # Narrower than the previous projection's, which may be at the same height.
                look: dict[str, Any] = TARGET_LOOK | {"markersize": 11 - 5 * order}
                axes.plot(*zip(*targets, strict=True), color=color, **look)
        _log_axis(axes, "d (trainable parameters)")
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_ylabel("time, in copies")
    shown = [name for name in PROJECTIONS if find(selected, projection=name)]
    handles = [Line2D([], [], color=COLORS[name], linewidth=1.2, label=name) for name in shown]
    _legend(figure, [*handles, Line2D([], [], color=INK, label="at most", **TARGET_LOOK)])
    return figure


def _growth(entries: Sequence[Entry]) -> Figure:
    figure, panels = _panels(("against D", "against d"), height=1.6)
    for axes, over in zip(panels, ("D", "d"), strict=True):
        selected = find(entries, kind="scaling", over=over)
        for projection in PROJECTIONS:
            for op in OPERATIONS:
                line = find(selected, projection=projection, operation=op)
                look: dict[str, Any] = {"linestyle": LINES[op], "color": COLORS[projection]}
                axes.plot(*_points(line, over), marker="o", markersize=2.5, linewidth=0.9, **look)
        copies = find(selected, projection="fastfood", operation="copy")
        axes.plot(*_points(copies, over), color=COLORS["copy"], linewidth=0.9)
        _log_axis(axes, "D (weights)" if over == "D" else "d (trainable parameters)")
        axes.set_ylim(bottom=0)
        axes.set_ylabel("ns per weight")
    shown = [p for p in PROJECTIONS if find(entries, kind="scaling", projection=p)]
    looks = [(f"{p} {op}", COLORS[p], LINES[op]) for p in shown for op in OPERATIONS]
    looks.append(("copy", COLORS["copy"], "-"))
    handles = [Line2D([], [], color=c, linestyle=s, linewidth=1, label=n) for n, c, s in looks]
    _legend(figure, handles)
    return figure


def _kernel_memory(entries: Sequence[Entry]) -> Figure:
    figure, (axes,) = _panels(("apply (circles) and adjoint (squares)",), height=1.9)
    selected = find(entries, kind="memory")
    for entry in selected:
        look: dict[str, Any] = {"marker": MARKERS[entry.about["operation"]], "color": _color(entry)}
        x = entry.about["d"] * APART ** PROJECTIONS.index(entry.about["projection"])
        axes.plot(x, max(entry.value, SMALLEST_MB), linestyle="none", markersize=3, **look)
    dims = sorted({entry.about["d"] for entry in selected})
    span = [dims[0] * (dims[-1] / dims[0]) ** (i / 50) for i in range(51)]
    axes.plot(span, [allowed(round(d)) for d in span], color=THRESHOLD, dashes=(5, 2), linewidth=1)
    _log_axis(axes, "d (trainable parameters)")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_ylabel("extra memory, MB")
    shown = [name for name in PROJECTIONS if find(selected, projection=name)]
    handles = [Line2D([], [], color=COLORS[name], linewidth=1.2, label=name) for name in shown]
    target = Line2D([], [], color=THRESHOLD, dashes=(5, 2), linewidth=1, label="16 MB + 64 d bytes")
    _legend(figure, [*handles, target])
    return figure


def _training_steps(entries: Sequence[Entry]) -> Figure:
    models = _values(find(entries, kind="step"), "model")
    figure, panels = _panels(models, height=1.5)
    for axes, model in zip(panels, models, strict=True):
        steps = find(entries, kind="step", model=model)
        ratios = {e.about["method"]: e for e in find(entries, kind="step ratio", model=model)}
        for row, step in enumerate(steps):
            ratio = ratios.get(step.about["method"])
            length = 1.0 if ratio is None else ratio.value
            ours = ratio is not None and ratio.at_most is not None
            axes.barh(row, length, height=0.7, color=FULL if ours else OTHER)
            axes.text(
                length,
                row,
                f" {number(step.value)} ms",
                va="center",
                fontsize=6,
                zorder=5,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.4, "alpha": 0.85},
            )
            if ratio is not None and ratio.at_most is not None:
                _mark(axes, ratio.at_most, row)
        _rows(axes, steps)
        axes.margins(x=0.16)
        axes.set_xlabel("time, in full AdamW steps")
    patches = [_patch(FULL, "d90"), _patch(OTHER, "others")]
    _legend(figure, [*patches, Line2D([], [], color=THRESHOLD, label="at most")])
    return figure


def _training_memory(entries: Sequence[Entry]) -> Figure:
    models = _values(find(entries, kind=PEAK), "model")
    figure, panels = _panels(models, height=1.5)
    for axes, model in zip(panels, models, strict=True):
        peaks = find(entries, kind=PEAK, model=model)
        for row, peak in enumerate(peaks):
            method = peak.about["method"]
            axes.barh(row, peak.value, height=0.7, color=LIGHT)
            for small in find(entries, kind=WEIGHTS_LIKE, model=model, method=method):
                axes.barh(row, small.value, height=0.7, color=FULL)
                if small.at_most is not None:
                    _mark(axes, small.at_most, row)
        _rows(axes, peaks)
        axes.set_xlabel("resident memory, MB")
    patches = [_patch(FULL, "weights-like"), _patch(LIGHT, "with activations")]
    _legend(figure, [*patches, Line2D([], [], color=THRESHOLD, label="at most")])
    return figure


def _mark(axes: Axes, value: float, row: int) -> None:
    axes.plot([value, value], [row - 0.45, row + 0.45], color=THRESHOLD, linewidth=1.2)


def _rows(axes: Axes, entries: Sequence[Entry]) -> None:
    """One row for each method, from top to bottom."""
    names = [entry.about["method"].partition(",")[0] for entry in entries]
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()


def _patch(color: str, label: str) -> Line2D:
    return Line2D([], [], color=color, linewidth=5, label=label)


def _log_axis(axes: Axes, label: str) -> None:
    log_axis(axes, "x", (1,))
    axes.set_xlabel(label)


def _legend(figure: Figure, handles: Sequence[Line2D]) -> None:
    look = {"frameon": False, "handlelength": 1.5, "handletextpad": 0.4, "columnspacing": 1}
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 3), **look)


def _points(entries: Sequence[Entry], over: str) -> tuple[list[float], list[float]]:
    pairs = sorted((entry.about[over], entry.value) for entry in entries)
    return [x for x, _ in pairs], [y for _, y in pairs]


def _values(entries: Sequence[Entry], key: str) -> list[str]:
    return list(dict.fromkeys(entry.about[key] for entry in entries))


def _color(entry: Entry) -> str:
    return COLORS[entry.about["projection"]]


FIGURES: dict[str, tuple[str, Callable[[Sequence[Entry]], Figure], str]] = {
    "cost-against-d": ("Time of apply and adjoint, in copies", _cost_against_d, "kernel"),
    "growth": ("Time per weight against D and d", _growth, "scaling"),
    "kernel-memory": ("Extra memory of apply and adjoint", _kernel_memory, "memory"),
    "training-step": ("Time of a training step", _training_steps, "step"),
    "training-memory": ("Memory of training", _training_memory, PEAK),
}
"""Title, drawing function and required kind of entries, by the name of the figure."""
