"""The curve of a study as a figure, as wide as a column of a paper: metric against d.

Sizes are in inches unless stated otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from d90.report import wording
from d90.report.plotting import INK, MARKERS, SOFT, log_axis
from d90.search.summary import Summary

WIDTH = 3.3
LEFT, RIGHT, TOP, BOTTOM = 0.52, 0.83, 0.2, 0.4
PLOT_HEIGHT = 1.75
LEGEND_ROW, LEGEND_COLUMNS = 0.14, 4
LABEL_GAP = 0.12
FULL, THRESHOLD, BAND, MAJORITY, FAILED = "#0072b2", "#b34700", "#007a5a", SOFT, "#888888"
"""Okabe and Ito's blue, darkened vermillion and green, and grays: distinct for color-blind
readers."""

MarkerStyle = Mapping[str, Any]
"""Marker and color of the runs at one learning rate."""


def draw_curve(summary: Summary) -> Figure:
    """The curve, in the style of `d90.report.plotting`."""
    styles = _marker_styles(summary)
    legend = _legend_handles(summary, styles)
    rows = math.ceil(len(legend) / LEGEND_COLUMNS)
    bottom = BOTTOM + (rows + 1 if rows else 0) * LEGEND_ROW
    height = bottom + PLOT_HEIGHT + TOP
    figure = Figure(figsize=(WIDTH, height))
    axes = figure.add_axes(
        (LEFT / WIDTH, bottom / height, 1 - (LEFT + RIGHT) / WIDTH, PLOT_HEIGHT / height)
    )
    _set_scales(axes, summary)
    _draw_levels(axes, summary)
    _draw_band(axes, summary)
    _draw_runs(axes, summary, styles)
    _draw_answer(axes, summary)
    if legend:
        figure.legend(
            handles=legend,
            title="learning rate",
            title_fontsize=7,
            loc="lower center",
            bbox_to_anchor=(0.5, 0),
            ncols=math.ceil(len(legend) / rows),
            frameon=False,
            handlelength=1,
            handletextpad=0.4,
            columnspacing=1,
            labelspacing=0.3,
            borderpad=0.2,
        )
    return figure


def _set_scales(axes: Axes, summary: Summary) -> None:
    dims = _dims(summary) or [10, 10_000]
    low, high = min(dims), max(dims)
    margin = max((high / low) ** 0.04, 1.15) if high > low else 3
    axes.set_xscale("log")
    axes.set_xlim(low / margin, high * margin)
    log_axis(axes, "x", (1, 2, 5) if math.log10(high / low) < 1.5 else (1,))
    axes.set_xlabel("d (trained parameters)")
    axes.set_ylabel(summary.score_name)
    heights = [value for value, _, _, _ in _levels(summary)] + [y for _, y in _points(summary)]
    pad = 0.06 * (max(heights) - min(heights)) or 0.05
    axes.set_ylim(min(heights) - pad, max(heights) + pad)


def _draw_levels(axes: Axes, summary: Summary) -> None:
    """The horizontal lines, labeled at their right end without overlap."""
    levels = _levels(summary)
    low, high = axes.get_ylim()
    positions = [PLOT_HEIGHT * (value - low) / (high - low) for value, _, _, _ in levels]
    for (value, label, color, dashes), y in zip(
        levels, spread(positions, LABEL_GAP, PLOT_HEIGHT), strict=True
    ):
        axes.axhline(value, color=color, linewidth=0.9, linestyle=dashes, zorder=1)
        axes.text(
            1.03,
            y / PLOT_HEIGHT,
            f"{label} {wording.format_metric(value)}",
            transform=axes.transAxes,
            color=color,
            fontsize=7,
            verticalalignment="center",
        )


def _levels(summary: Summary) -> list[tuple[float, str, str, Any]]:
    """(height, label, color, dashes) of each horizontal line."""
    levels = [
        (summary.full_metric, "full", FULL, "-"),
        (summary.threshold, wording.percent(summary), THRESHOLD, (0, (5, 2))),
        (summary.floor, wording.floor_name(summary), MAJORITY, (0, (1, 1.5))),
    ]
    return [(v, label, color, dashes) for v, label, color, dashes in levels if v is not None]


def spread(positions: Sequence[float], gap: float, top: float) -> list[float]:
    """Positions near the given ones, at least `gap` apart, none above `top`.

    >>> spread([1.0, 0.0, 1.0], gap=0.25, top=2)
    [1.0, 0.0, 1.25]
    """
    order = sorted(range(len(positions)), key=lambda i: positions[i])
    placed = list(positions)
    floor = -math.inf
    for i in order:
        placed[i] = max(placed[i], floor)
        floor = placed[i] + gap
    ceiling = top
    for i in reversed(order):
        placed[i] = min(placed[i], ceiling)
        ceiling = placed[i] - gap
    return placed


def _draw_band(axes: Axes, summary: Summary) -> None:
    """The posterior of the curve: its median, and 95% at each d."""
    if not summary.band:
        return
    d, low, median, high = zip(*summary.band, strict=True)
    axes.fill_between(d, low, high, color=BAND, alpha=0.15, linewidth=0, zorder=0.5)
    axes.plot(d, median, color=BAND, linewidth=0.8, zorder=1.4)


def _draw_runs(axes: Axes, summary: Summary, styles: Mapping[float, MarkerStyle]) -> None:
    size = 3.2 if len(summary.trials) <= 120 else 2.2
    for rate, style in styles.items():
        runs = [r for r in summary.scored_trials if r.trial.learning_rate == rate and r.is_valid]
        points = [(r.trial.d, r.metric) for r in runs if not r.trial.is_full]
        _scatter(axes, points, markersize=size, markeredgewidth=0, alpha=0.85, **style)
    _scatter(axes, _failed(summary), marker="x", markersize=3, color=FAILED, markeredgewidth=0.7)
    best = [(point.d, point.best) for point in summary.curve]
    if best and _has_every_rate(summary):
        axes.plot(*zip(*best, strict=True), color=INK, linewidth=0.8, zorder=1.5)


def _scatter(axes: Axes, points: Sequence[tuple[Any, Any]], **style: Any) -> None:
    if points:
        axes.plot(*zip(*points, strict=True), linestyle="none", zorder=2, **style)


def _draw_answer(axes: Axes, summary: Summary) -> None:
    """d90 as a line, its interval as a band, and the answer above the plot."""
    left, right = axes.get_xlim()
    if summary.interval is not None:
        low, high = summary.interval
        axes.axvspan(
            left if low is None else low,
            right if high is None else high,
            color=THRESHOLD,
            alpha=0.13,
            linewidth=0,
            zorder=0,
        )
    text, x = wording.answer(summary), 0.0
    if summary.d90 is not None:
        axes.axvline(summary.d90, color=THRESHOLD, linewidth=0.9, zorder=1)
        x = math.log(summary.d90 / left) / math.log(right / left)
        span = wording.interval(summary)
        text = f"{text} ({span})" if span else text
    align = "left" if x < 0.3 else "right" if x > 0.85 else "center"
    axes.text(
        x,
        1.03,
        text,
        transform=axes.transAxes,
        color=THRESHOLD if summary.d90 is not None else INK,
        horizontalalignment=align,
    )


def _legend_handles(summary: Summary, styles: Mapping[float, MarkerStyle]) -> list[Line2D]:
    handles = [
        Line2D([], [], linestyle="none", markersize=3.5, label=f"{rate:g}", **style)
        for rate, style in styles.items()
    ]
    if summary.curve and _has_every_rate(summary):
        handles.append(Line2D([], [], color=INK, linewidth=0.8, label="best"))
    if summary.band:
        handles.append(Line2D([], [], color=BAND, linewidth=0.8, label="model"))
    if _failed(summary):
        cross = Line2D([], [], linestyle="none", marker="x", color=FAILED, label="failed")
        cross.set_markersize(3.5)
        handles.append(cross)
    return handles


def _has_every_rate(summary: Summary) -> bool:
    """Whether every d was tried at the same learning rates; else the best of each is no curve."""
    rates: dict[int | None, set[float]] = {}
    for result in summary.trials:
        rates.setdefault(result.trial.d, set()).add(result.trial.learning_rate)
    rates.pop(None, None)
    return len(set(map(frozenset, rates.values()))) == 1


def _marker_styles(summary: Summary) -> dict[float, MarkerStyle]:
    """Learning rate -> marker and color: darker is smaller; markers differ for grayscale print."""
    rates = sorted({r.trial.learning_rate for r in summary.trials if not r.trial.is_full})
    colors = mpl.colormaps["viridis"]
    last = max(len(rates) - 1, 1)
    return {
        rate: {"marker": MARKERS[i % len(MARKERS)], "color": colors(0.85 * i / last)}
        for i, rate in enumerate(rates)
    }


def _failed(summary: Summary) -> list[tuple[int, float]]:
    """Positions of the crosses: at the metric of the run, at the floor if it has none."""
    return [
        (result.trial.d, _height(result.metric, summary.floor))
        for result in summary.scored_trials
        if result.trial.d is not None and not result.is_valid
    ]


def _height(metric: float | None, majority: float) -> float:
    return metric if metric is not None and math.isfinite(metric) else majority


def _points(summary: Summary) -> list[tuple[int, float]]:
    valid = [
        (r.trial.d, r.metric)
        for r in summary.scored_trials
        if r.trial.d is not None and r.is_valid and r.metric is not None
    ]
    return valid + _failed(summary)


def _dims(summary: Summary) -> list[int]:
    return [result.trial.d for result in summary.trials if result.trial.d is not None]
