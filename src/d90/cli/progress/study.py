"""What a person sees while a study runs: live on a terminal, one line a run elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from statistics import fmean
from time import monotonic
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

from d90.experiments.study import Study
from d90.experiments.sweep import SweepCallback, SweepItem
from d90.search.trial import Trial, TrialResult
from d90.training import Progress as Step

RECENT = 10
"""The time left is judged by so many runs."""


class Display(SweepCallback, AbstractContextManager["Display"]):
    """Studies, runs and steps done and left, the run under way, the bracket of d and the time left.

    Written for 40 columns and more. `quiet` prints nothing at all.
    """

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self._console, self._quiet = console, quiet
        self._bars = Progress(
            TextColumn("{task.description}"), BarColumn(bar_width=None), MofNCompleteColumn()
        )
        self._studies = self._bars.add_task("studies", total=None, visible=False)
        self._runs = self._bars.add_task("runs", total=None)
        self._steps = self._bars.add_task("step", total=None, visible=False)
        self._run, self._search = Text(), Text()
        self._live: Live | None = None
        if console.is_terminal and not quiet:
            shown = Group(self._bars, self._run, self._search)
            self._live = Live(shown, console=console, transient=True)
        self._began = monotonic()
        self._seconds: list[float] = []
        self._left = 0
        self._bracket = ""

    def __enter__(self) -> Display:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def on_item_begin(self, item: SweepItem, number: int, count: int) -> None:
        self._say(f"study {number} of {count}: {item.name}")
        self._bars.update(self._studies, completed=number - 1, total=count, visible=True)

    def on_study_begin(self, study: Study, results: Sequence[TrialResult]) -> None:
        self._say(
            f"{study.model_name} on {study.task.name}: D = {study.D:,}, "
            f"{study.subspace['method'].upper()}, {study.subspace['projection']}, "
            f"scale {study.subspace['scale']}, majority {study.majority:.3f}"
        )
        if results:
            self._say(f"runs done before: {len(results)}")
        self._advance(study, results)

    def on_trial_begin(self, trial: Trial) -> None:
        self._began = monotonic()
        self._bars.reset(self._steps, total=None, visible=True)
        self._run.plain = _name(trial)

    def on_progress(self, trial: Trial, progress: Step) -> None:
        self._bars.update(self._steps, completed=progress.step, total=progress.steps)
        metric = "" if progress.metric is None else f", metric {progress.metric:.3f}"
        self._run.plain = f"{_name(trial)}: loss {progress.loss:.3f}{metric}"
        done = progress.step / progress.steps
        elapsed = monotonic() - self._began
        a_run = fmean(self._seconds) if self._seconds else elapsed / done
        seconds = elapsed / done * (1 - done) + a_run * (self._left - 1)
        self._search.plain = f"{self._bracket}at most {duration(seconds)} left"

    def on_trial_end(
        self, study: Study, result: TrialResult, results: Sequence[TrialResult], *, reused: bool
    ) -> None:
        metric = "-" if result.metric is None else f"{result.metric:.4f}"
        how = "from another study" if reused else duration(result.seconds)
        why = f": {result.message}" if result.message else ""
        self._say(f"{_name(result.trial):<34} {metric:>7}  {result.status} ({how}){why}")
        self._bars.update(self._steps, visible=False)
        self._run.plain = ""
        self._advance(study, results)

    def _advance(self, study: Study, results: Sequence[TrialResult]) -> None:
        self._seconds = [result.seconds for result in results[-RECENT:]]
        self._left = study.protocol.max_trials(results)
        name = f"d{100 * study.protocol.target_fraction:g}"
        self._bracket = _bracket(name, *study.protocol.bounds(results))
        self._bars.update(self._runs, completed=len(results), total=len(results) + self._left)

    def _say(self, line: str) -> None:
        if not self._quiet:
            self._console.print(line, soft_wrap=True, highlight=False, markup=False)


def _name(trial: Trial) -> str:
    what = "full fine-tuning" if trial.is_full else f"d = {trial.d:,}"
    seed = "" if trial.is_full else f", seed {trial.seed}"
    return f"{what}, rate {trial.learning_rate:g}{seed}"


def _bracket(name: str, failing: int | None, passing: int | None) -> str:
    """The bracket as far as it is known, and a comma.

    >>> _bracket("d90", 100, 1000), _bracket("d90", None, 100), _bracket("d90", None, None)
    ('100 < d90 ≤ 1,000, ', 'd90 ≤ 100, ', '')
    """
    low = "" if failing is None else f"{failing:,} < "
    high = "" if passing is None else f" ≤ {passing:,}"
    return f"{low}{name}{high}, " if low or high else ""


def duration(seconds: float) -> str:
    """The time in the unit that suits it.

    >>> [duration(seconds) for seconds in (4.2, 312, 8000)]
    ['4 s', '5 min', '2.2 h']
    """
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5940 else f"{seconds / 3600:.1f} h"
