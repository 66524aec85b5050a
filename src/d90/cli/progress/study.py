"""What the terminal shows while trials run: live on a terminal, one line a trial elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from statistics import fmean
from threading import Lock
from time import monotonic

from rich.console import Console, ConsoleOptions, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from d90.cli.output import format_seconds
from d90.cli.progress.live import LiveDisplay
from d90.cli.progress.narrowing import d90_so_far, sparkline, why_next
from d90.experiments.study import Study
from d90.experiments.sweep import SweepCallback, SweepItem
from d90.search.criteria import SMOOTH, short_reference
from d90.search.history import HistoryPoint, history
from d90.search.proposals import Proposal
from d90.search.trial import Trial, TrialResult
from d90.training import Progress

RECENT = 10
"""The expected duration of a trial is the mean of so many finished ones."""

WIDE = 72
"""Columns from which on a trial's line has room for its loss and metric."""

MAX_SHOWN = 5
"""Trials that have a line of their own while they run."""


@dataclass(frozen=True)
class RunningTrial:
    """A trial under way.

    Attributes:
        began: when it began, in seconds of the display's clock.
        progress: its last report; None before the first one.
    """

    began: float
    progress: Progress | None = None

    @property
    def is_finished(self) -> bool:
        """Whether its last step is done; a speculative trial then waits to be asked for."""
        return self.progress is not None and self.progress.step == self.progress.steps

    def seconds_left(self, now: float, expected: float | None) -> float | None:
        """The time that it still takes, by its own speed; before it has one, `expected`."""
        if self.progress is None:
            return expected
        done = self.progress.step / self.progress.steps
        return (now - self.began) * (1 - done) / done

    def seconds_in_all(self, now: float) -> float | None:
        """Its whole duration, by its own speed; None before its first report."""
        if self.progress is None:
            return None
        return (now - self.began) * self.progress.steps / self.progress.step


def seconds_left(
    running: Collection[RunningTrial], remaining: int, finished: Sequence[float], now: float
) -> float | None:
    """The time until all trials have run, at most; None while no trial has reported.

    The remaining work is spread over the workers in use, and takes no less than the longest of the
    trials under way.

    Args:
        running: the trials under way, one a worker.
        remaining: trials that the protocol can still ask for, those under way included.
        finished: durations of finished trials, in seconds.
        now: the display's clock.
    """
    known = [seconds for trial in running if (seconds := trial.seconds_in_all(now)) is not None]
    if not (finished or known):
        return None
    expected = fmean(finished or known)
    left = [trial.seconds_left(now, expected) or 0.0 for trial in running if not trial.is_finished]
    work = sum(left) + expected * max(remaining - len(running), 0)
    return max([work / max(len(left), 1), *left])


class StudyProgress(SweepCallback, LiveDisplay):
    """Studies and trials done and left, those under way, d90 so far, and the time left.

    Args:
        console: where it is shown; live where that is a terminal.
        quiet: print nothing at all.
        clock: seconds, of any origin.
    """

    def __init__(
        self, console: Console, *, quiet: bool = False, clock: Callable[[], float] = monotonic
    ) -> None:
        super().__init__(console, quiet=quiet)
        self._clock = clock
        self._lock = Lock()  # Executors report progress from threads of their own.
        self._running: dict[Trial, RunningTrial] = {}
        self._studies: tuple[int, int] | None = None
        self._finished: list[float] = []
        self._done, self._remaining, self._name, self._bracket = 0, 0, "d90", ""
        self._history: tuple[HistoryPoint, ...] = ()
        self._proposals: list[Proposal] = []
        self._widest = 1.0
        self._show_live(self)

    def on_item_begin(self, item: SweepItem, number: int, count: int) -> None:
        self._print(f"study {number} of {count}: {item.name}")
        self._studies = number - 1, count

    def on_study_begin(self, study: Study, results: Sequence[TrialResult]) -> None:
        problem = study.problem
        self._print(
            f"{problem.title}, {short_reference(problem.reference)} {problem.majority:.3f}"
            + (f", scored by {problem.criterion}" if problem.criterion in SMOOTH else "")
        )
        if results:
            self._print(f"trials already finished: {len(results)}")
        with self._lock:
            self._running.clear()
        self._update(study, results)

    def on_results_taken_over(
        self, study: Study, count: int, results: Sequence[TrialResult]
    ) -> None:
        self._print(f"trials of other protocols taken over from the store: {count}")
        self._update(study, results)

    def on_trial_begin(self, trial: Trial) -> None:
        with self._lock:
            self._running[trial] = RunningTrial(self._clock())

    def on_progress(self, trial: Trial, progress: Progress) -> None:
        with self._lock:
            if trial in self._running:  # A cancelled trial may still report.
                began = self._running[trial].began
                self._running[trial] = RunningTrial(began, progress)

    def on_trial_end(
        self, study: Study, result: TrialResult, results: Sequence[TrialResult], *, reused: bool
    ) -> None:
        with self._lock:
            self._running.pop(result.trial, None)
        self._update(study, results)
        (result,) = study.scored([result])
        metric = "-" if result.metric is None else f"{result.metric:.4f}"
        source = "from another study" if reused else format_seconds(result.seconds)
        reason = f": {result.message}" if result.message else ""
        so_far = f", {d90_so_far(self._name, self._history[-1])}" if self._history else ""
        outcome = f"{metric:>7}  {result.status} ({source}){reason}{so_far}"
        self._print(f"{_trial_name(result.trial):<31} {outcome}")

    def on_trial_cancelled(self, trial: Trial) -> None:
        with self._lock:
            self._running.pop(trial, None)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The live display as it is now."""
        with self._lock:
            running = dict(self._running)
        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(no_wrap=True)
        table.add_column(ratio=1, min_width=1)
        table.add_column(no_wrap=True, justify="right")
        if self._studies is not None:
            _add_bar(table, "studies", *self._studies)
        _add_bar(table, "trials", self._done, self._done + self._remaining)
        shown = [(trial, state) for trial, state in running.items() if not state.is_finished]
        for trial, state in shown[:MAX_SHOWN]:
            _add_trial(table, trial, state.progress, is_wide=options.max_width >= WIDE)
        yield table
        if len(shown) > MAX_SHOWN:
            yield Text(f"and {len(shown) - MAX_SHOWN} more trials")
        is_wide = options.max_width >= WIDE
        if self._history:
            line = sparkline(self._history, self._widest)
            answer = d90_so_far(self._name, self._history[-1])
            yield Text(f"{answer}, {line}" if is_wide else f"{answer}\n{line}")
        why = why_next(self._name, self._proposals, is_wide=is_wide)
        if why:
            yield Text(why)
        seconds = seconds_left(running.values(), self._remaining, self._finished, self._clock())
        time = "" if seconds is None else f"at most {format_seconds(seconds)} left"
        yield Text(", ".join(filter(None, (self._bracket, time))))

    def _update(self, study: Study, results: Sequence[TrialResult]) -> None:
        protocol = study.protocol
        self._finished = [result.seconds for result in results[-RECENT:]]
        results = study.scored(results)
        self._done, self._remaining = len(results), protocol.max_trials(results)
        self._name = study.quantity
        self._history, self._proposals = history(protocol, results), protocol.proposals(results)
        dims = protocol.dimensions()
        self._widest = dims[-1] / dims[0]
        # A posterior says more than the bracket.
        self._bracket = "" if self._history else _bracket(self._name, *protocol.bounds(results))


def _add_bar(table: Table, name: str, done: int, total: int, *details: str) -> None:
    table.add_row(name, ProgressBar(total, done), f"{done:,}/{total:,}", *details)


def _add_trial(table: Table, trial: Trial, progress: Progress | None, *, is_wide: bool) -> None:
    if progress is None:
        table.add_row(_trial_name(trial), ProgressBar(1, 0))
        return
    metric = "" if progress.metric is None else f", metric {progress.metric:.3f}"
    details = [f"loss {progress.loss:.3f}{metric}"] if is_wide else []
    _add_bar(table, _trial_name(trial), progress.step, progress.steps, *details)


def _trial_name(trial: Trial) -> str:
    if trial.is_full:
        seed = f", seed {trial.seed}" if trial.seed else ""
        return f"full fine-tuning, rate {trial.learning_rate:g}{seed}"
    return f"d = {trial.d:,}, rate {trial.learning_rate:g}, seed {trial.seed}"


def _bracket(name: str, failing: int | None, passing: int | None) -> str:
    """Where d90 lies as far as is known.

    >>> _bracket("d90", 100, 1000), _bracket("d90", None, 100), _bracket("d90", None, None)
    ('100 < d90 ≤ 1,000', 'd90 ≤ 100', '')
    """
    low = "" if failing is None else f"{failing:,} < "
    high = "" if passing is None else f" ≤ {passing:,}"
    return f"{low}{name}{high}" if low or high else ""
