"""What a person sees while a study runs: live on a terminal, one line a run elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from statistics import fmean
from time import monotonic
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from d90.measure import Listener, Study
from d90.records import Record, Trial
from d90.training import Progress as Step


class Display(Listener, AbstractContextManager["Display"]):
    """Trials done and left, the step of the run, the time left and the bracket of d so far."""

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self._console, self._quiet = console, quiet
        self._live = console.is_terminal and not quiet
        self._bars = Progress(
            TextColumn("{task.description}", justify="left"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            disable=not self._live,
        )
        self._trials = self._bars.add_task("runs", total=None, note="")
        self._steps = self._bars.add_task("run", total=None, note="", visible=False)
        self._study: Study | None = None
        self._began = monotonic()
        self._seconds: list[float] = []

    def __enter__(self) -> Display:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def opened(self, study: Study, records: Sequence[Record]) -> None:
        self._study = study
        again = f", {len(records)} runs done before" if records else ""
        self._say(
            f"{study.model_name} on {study.task.name}: D = {study.D:,}, "
            f"{study.subspace['method'].upper()}, {study.subspace['projection']}, "
            f"scale {study.subspace['scale']}, majority {study.majority:.3f}{again}"
        )
        self._advance(records)

    def started(self, trial: Trial) -> None:
        self._began = monotonic()
        self._bars.reset(self._steps, description=_name(trial), total=None, note="", visible=True)

    def progressed(self, trial: Trial, progress: Step) -> None:
        metric = "" if progress.metric is None else f"  metric {progress.metric:.3f}"
        self._bars.update(
            self._steps,
            completed=progress.step,
            total=progress.steps,
            note=f"loss {progress.loss:.3f}{metric}",
        )

    def finished(self, record: Record, records: Sequence[Record], *, reused: bool) -> None:
        if not reused:
            self._seconds.append(monotonic() - self._began)
        metric = "-" if record.metric is None else f"{record.metric:.4f}"
        how = "reused" if reused else f"{record.seconds:.0f} s"
        why = f": {record.message}" if record.message else ""
        self._say(f"{_name(record.trial):<34} {metric:>7}  {record.status} ({how}){why}")
        self._bars.update(self._steps, visible=False)
        self._advance(records)

    def _advance(self, records: Sequence[Record]) -> None:
        assert self._study is not None
        left = self._study.protocol.bound(records)
        failing, passing = self._study.protocol.bracket(records)
        note = f"{_time_left(self._seconds, left)}{_bracket(failing, passing)}"
        self._bars.update(
            self._trials, completed=len(records), total=len(records) + left, note=note
        )

    def _say(self, line: str) -> None:
        if not self._quiet:
            self._bars.console.print(line, soft_wrap=True, highlight=False)


def _name(trial: Trial) -> str:
    what = "full fine-tuning" if trial.is_full else f"d = {trial.d:,}"
    seed = "" if trial.is_full else f", seed {trial.seed}"
    return f"{what}, rate {trial.learning_rate:g}{seed}"


def _time_left(seconds: Sequence[float], left: int) -> str:
    if not seconds or not left:
        return ""
    minutes = fmean(seconds[-10:]) * left / 60
    return f"at most {minutes:.0f} min left  " if minutes >= 1 else "under a minute left  "


def _bracket(failing: int | None, passing: int | None) -> str:
    if failing is None and passing is None:
        return ""
    low = "?" if failing is None else f"{failing:,}"
    high = "?" if passing is None else f"{passing:,}"
    return f"{low} < d90 <= {high}"
