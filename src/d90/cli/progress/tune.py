"""What the terminal shows during `d90 tune`: live on a terminal, one line an epoch elsewhere."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from d90.cli.output import print_line
from d90.cli.terminal import Terminal

if TYPE_CHECKING:
    from d90.adapters.quantize import Candidate
    from d90.experiments.tune import AdapterTuner, CodecTrial
    from d90.training import Progress


class TuneProgress(AbstractContextManager["TuneProgress"]):
    """Optimizer steps done, the loss and the metric; `quiet` prints nothing at all."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._console = Terminal()
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=quiet or not self._console.is_terminal,
        )
        self._task = self._bar.add_task("step", total=None)
        self._steps_per_epoch = 1

    def __enter__(self) -> TuneProgress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def on_train_begin(self, tuner: AdapterTuner) -> None:
        """Print what is tuned."""
        subspace, config = tuner.subspace, tuner.subspace.config
        self._steps_per_epoch = math.ceil(len(tuner.data.train) / tuner.config.batch_size)
        self._print(
            f"{tuner.problem.model_name} on {tuner.problem.task.name}: d = {subspace.d:,} of "
            f"D = {subspace.layout.D:,}, {config.method.upper()}, {config.projection}, "
            f"scale {config.scale}"
        )

    def on_progress(self, progress: Progress) -> None:
        """Show an optimizer step, and print the metric after an epoch."""
        metric = "" if progress.metric is None else f", {progress.metric:.3f}"
        self._bar.update(
            self._task,
            completed=progress.step,
            total=progress.steps,
            description=f"loss {progress.loss:.3f}{metric}",
        )
        if progress.step % self._steps_per_epoch == 0 or progress.step == progress.steps:
            self._print(f"step {progress.step:,} of {progress.steps:,}: {progress.metric:.4f}")

    def on_codec_trial(self, candidate: Candidate, trial: CodecTrial) -> None:
        """Show a codec that was tried."""
        self._bar.update(self._task, description=f"{candidate.name}: {trial.metric:.4f}")

    def _print(self, line: str) -> None:
        if not self._quiet:
            print_line(line, self._console)
