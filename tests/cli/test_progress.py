"""The display of a study, with a clock of its own and a console that records."""

from __future__ import annotations

import io
import re
from types import SimpleNamespace
from typing import Any

import pytest
from benchmarks.worlds import make_world
from rich.console import Console

from d90.cli.progress.narrowing import d90_so_far, sparkline
from d90.cli.progress.study import MAX_SHOWN, RunningTrial, StudyProgress, seconds_left
from d90.search.history import HistoryPoint, history
from d90.search.protocols import AdaptiveProtocol, make_protocol
from d90.search.trial import Trial, TrialResult
from d90.training import Progress

FULL, SMALL, LARGE = Trial(None, 0.01), Trial(10, 0.01), Trial(100, 0.01)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def at(step: int, metric: float | None = None) -> Progress:
    return Progress(step, 100, 0.5, metric)


def finished(trial: Trial, seconds: float = 60.0, metric: float = 0.9) -> TrialResult:
    return TrialResult(trial, "ok", metric=metric, seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def display(clock: Clock) -> StudyProgress:
    return StudyProgress(Console(file=io.StringIO(), width=100), clock=clock)


@pytest.fixture
def study() -> Any:
    """As much of a study as the display reads: d = 10 and d = 100 after one baseline."""
    protocol = make_protocol(
        "list", dims=[10, 100], learning_rates=[0.01], baseline_learning_rates=[0.01]
    )
    return SimpleNamespace(protocol=protocol, scored=list, quantity="d90")


def lines(display: StudyProgress, width: int = 100) -> list[str]:
    """What the terminal shows, without the bars."""
    console = Console(file=io.StringIO(), width=width, force_terminal=False, _environ={})
    console.print(display)
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue().splitlines()
    assert max(map(len, shown)) <= width
    return [" ".join(word for word in line.split() if set(word) - {*"━╸╺"}) for line in shown]


def test_trials_that_run_at_once(display: StudyProgress, study: Any, clock: Clock) -> None:
    display.on_trial_end(study, finished(FULL), [finished(FULL)], reused=False)
    display.on_trial_begin(SMALL)
    clock.now += 20
    display.on_trial_begin(LARGE)
    clock.now += 20
    display.on_progress(SMALL, at(50))
    display.on_progress(LARGE, at(20, 0.75))
    assert lines(display) == [
        "trials 1/3",
        "d = 10, rate 0.01, seed 0 50/100 loss 0.500",
        "d = 100, rate 0.01, seed 0 20/100 loss 0.500, metric 0.750",
        # 40 s of the one and 80 s of the other, side by side.
        "at most 80 s left",
    ]
    display.on_trial_end(study, finished(SMALL), [finished(FULL), finished(SMALL)], reused=False)
    assert lines(display) == [
        "trials 2/3",
        "d = 100, rate 0.01, seed 0 20/100 loss 0.500, metric 0.750",
        "d90 ≤ 10, at most 80 s left",
    ]


def test_seeds_of_the_baseline(display: StudyProgress) -> None:
    for seed in (0, 1):
        display.on_trial_begin(Trial(None, 0.01, seed))
    named = [line for line in lines(display) if "rate" in line]
    assert named == ["full fine-tuning, rate 0.01", "full fine-tuning, rate 0.01, seed 1"]


def test_a_cancelled_trial_disappears(display: StudyProgress, study: Any) -> None:
    display.on_trial_begin(FULL)
    display.on_trial_begin(SMALL)
    display.on_trial_cancelled(SMALL)
    display.on_progress(SMALL, at(50))
    assert [line for line in lines(display) if "rate" in line] == ["full fine-tuning, rate 0.01"]


def test_a_trial_whose_last_step_is_done_disappears(display: StudyProgress) -> None:
    display.on_trial_begin(SMALL)
    display.on_progress(SMALL, at(100))
    assert not [line for line in lines(display) if "rate" in line]


def test_many_trials_have_a_few_lines(display: StudyProgress) -> None:
    for d in range(1, MAX_SHOWN + 3):
        display.on_trial_begin(Trial(d, 0.01))
    shown = lines(display)
    assert sum("rate" in line for line in shown) == MAX_SHOWN
    assert "and 2 more trials" in shown


def test_it_fits_a_narrow_terminal(display: StudyProgress) -> None:
    display.on_trial_begin(LARGE)
    display.on_progress(LARGE, at(20, 0.75))
    assert "d = 100, rate 0.01, seed 0 20/100" in lines(display, width=40)


@pytest.fixture(scope="module")
def adaptive() -> tuple[Any, list[TrialResult]]:
    """An adaptive study of a simulated world, and the results of its first nine runs."""
    world = make_world("logistic", 3, "paired")
    protocol = AdaptiveProtocol().for_task(
        majority=world.majority, evaluation_size=world.evaluation_size
    )
    results: list[TrialResult] = []
    while len(results) < 9:
        results += map(world.run, protocol.next_trials(results)[: 9 - len(results)])
    return SimpleNamespace(protocol=protocol, scored=list, quantity="d90"), results


@pytest.mark.parametrize("width", [40, 80])
def test_an_adaptive_study_shows_d90_so_far_and_why_the_next_run_is_next(
    display: StudyProgress, adaptive: tuple[Any, list[TrialResult]], width: int
) -> None:
    study, results = adaptive
    display.on_trial_end(study, results[-1], results, reused=False)
    shown = " ".join(lines(display, width)[1:])
    last = history(study.protocol, results)[-1]
    assert last.d90 is not None and last.low is not None and last.high is not None
    assert f"d90 {last.d90:,} ({last.low:,}-{last.high:,})" in shown
    assert re.search(rf"[▁▂▃▄▅▆▇█]{{{len(results)}}} x{last.ratio:.1f}", shown)
    (proposal,) = study.protocol.proposals(results)
    trial = proposal.trial
    what = f"d = {trial.d:,}" if trial.d else "repeat of the baseline"
    assert f"next: {what} at {trial.learning_rate:g}" in shown
    assert f"{proposal.reduction:.0%}" in shown
    assert "≤" not in shown


def test_the_sparkline_narrows_from_the_whole_ladder() -> None:
    points = [HistoryPoint(100, 0.01, i, 70, 10, high) for i, high in enumerate([None, 10_000, 20])]
    assert sparkline(points, widest=1_000) == "██▁ x2.0"
    assert sparkline(points[:1], widest=1_000) == "█ open"
    assert len(sparkline(points * 20, widest=1_000)) == 24 + len(" x2.0")
    # A ladder of one rung has no width.
    assert sparkline(points[-1:], widest=1) == "█ x2.0"


def test_a_finished_run_of_an_adaptive_study_says_what_d90_is_so_far(
    display: StudyProgress, adaptive: tuple[Any, list[TrialResult]]
) -> None:
    study, results = adaptive
    for count in range(1, len(results) + 1):
        display.on_trial_end(study, results[count - 1], results[:count], reused=False)
    assert isinstance(display._console.file, io.StringIO)
    printed = display._console.file.getvalue().splitlines()
    assert len(printed) == len(results)
    for line, point in zip(printed, history(study.protocol, results), strict=True):
        assert line.endswith(d90_so_far("d90", point))


def test_a_finished_trial_is_a_line(display: StudyProgress, study: Any) -> None:
    display.on_trial_end(study, finished(FULL, 61), [finished(FULL, 61)], reused=True)
    stopped = TrialResult(LARGE, "diverged", seconds=5, message="at step 3")
    display.on_trial_end(study, stopped, [finished(FULL), stopped], reused=False)
    assert isinstance(display._console.file, io.StringIO)
    assert display._console.file.getvalue().splitlines() == [
        f"{'full fine-tuning, rate 0.01':<31}  0.9000  ok (from another study)",
        f"{'d = 100, rate 0.01, seed 0':<31}       -  diverged (5 s): at step 3",
    ]


@pytest.mark.parametrize(
    ("running", "remaining", "durations", "expected"),
    [
        # One worker at half of its trial, three trials to come.
        ([RunningTrial(0, at(50))], 4, [200.0], 100 + 3 * 200),
        # Four workers at half of theirs, 12 to come: 4 * 100 + 12 * 200 of work.
        ([RunningTrial(0, at(50))] * 4, 16, [200.0], 700),
        # The last two: no sooner than the slower one ends.
        ([RunningTrial(0, at(50)), RunningTrial(0, at(10))], 2, [200.0], 900),
        # A trial that has not reported counts as an ordinary one.
        ([RunningTrial(100)], 1, [200.0], 200),
        # None has finished yet: the trial under way says how long they take.
        ([RunningTrial(0, at(50))], 2, [], 300),
        ([RunningTrial(100)], 2, [], None),
        # A speculative trial that is done occupies no worker.
        ([RunningTrial(0, at(50)), RunningTrial(0, at(100))], 3, [200.0], 300),
        ([], 3, [10.0], 30),
        ([], 0, [10.0], 0),
    ],
)
def test_seconds_left(
    running: list[RunningTrial], remaining: int, durations: list[float], expected: float | None
) -> None:
    assert seconds_left(running, remaining, durations, now=100) == pytest.approx(expected)
