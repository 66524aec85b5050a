"""The loss curve of a run: a figure for one column of a paper, nats against optimizer steps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from d90.pretraining.checkpoints import Evaluation
from d90.report import plotting
from d90.utils.files import atomic_write

SIZE = 3.3, 2.2
"""Width and height in inches."""


def write_figure(history: Sequence[Evaluation], folder: Path) -> None:
    """Write `loss.svg` and `loss.png`; the same history gives the same bytes."""
    atomic_write(folder / "loss.svg", plotting.svg(lambda: _figure(history)))
    atomic_write(folder / "loss.png", plotting.png(lambda: _figure(history)))


def _figure(history: Sequence[Evaluation]) -> Figure:
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.add_subplot()
    train = [(e.step, e.train_loss) for e in history if e.train_loss is not None]
    validation = [(e.step, e.validation_loss) for e in history]
    lines = {"training": (train, "-"), "validation": (validation, (0, (5, 2)))}
    for (label, (points, dashes)), color in zip(lines.items(), plotting.COLORS, strict=False):
        if points:
            xs, ys = zip(*points, strict=True)
            axes.plot(xs, ys, color=color, linestyle=dashes, linewidth=1, label=label)
    axes.set_xlabel("optimizer steps")
    axes.set_ylabel("loss (nats per masked token)")
    axes.xaxis.set_major_formatter(plotting.tick_label)
    axes.legend(frameon=False)
    return figure
