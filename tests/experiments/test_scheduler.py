"""Scheduler: the answer does not depend on the number of workers or the order of results."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import pytest

from d90.executors.base import OnProgress
from d90.experiments.callbacks import Callback
from d90.experiments.scheduler import Scheduler
from d90.experiments.study import Study
from d90.search.protocols import BisectProtocol, GridProtocol, Protocol
from d90.search.protocols.speculative import speculative_trials
from d90.search.trial import Trial, TrialResult
from d90.storage.store import StudyStore

FULL = (1e-4, 2e-4)
SEARCH = BisectProtocol(
    min_dim=10,
    max_dim=5_000,
    learning_rates=(0.002, 0.008),
    baseline_learning_rates=FULL,
    seeds=(0, 1),
)
EVERY = GridProtocol(
    min_dim=10, max_dim=1000, num_dims=4, learning_rates=(0.01,), baseline_learning_rates=FULL
)


def outcome(trial: Trial, landscape: int) -> TrialResult:
    """A run of a made-up task: better with d, with noise of its own."""
    chance = Random(f"{landscape} {trial}")
    if trial.is_full:
        return TrialResult(trial, "ok", metric=0.8)
    if chance.random() < 0.2:
        return TrialResult(trial, "collapsed")
    assert trial.d is not None
    middle = 10 ** (1 + 3 * Random(landscape).random())
    return TrialResult(
        trial, "ok", metric=0.8 * trial.d / (trial.d + middle / 9) + chance.gauss(0, 0.02)
    )


@dataclass
class Notes:
    """A store in memory, as strict as the real one."""

    known: dict[str, TrialResult] = field(default_factory=dict)
    done: dict[int, TrialResult] = field(default_factory=dict)
    under_way: dict[int, Trial] = field(default_factory=dict)

    def results(self) -> list[TrialResult]:
        return [self.done[id] for id in sorted(self.done)]

    def start(self, trial: Trial, key: str) -> Any:
        assert trial not in self.under_way.values()
        assert trial not in {result.trial for result in self.done.values()}
        id = len(self.done) + len(self.under_way)
        self.under_way[id] = trial
        return SimpleNamespace(id=id)

    def finish(self, handle: Any, result: TrialResult) -> None:
        assert self.under_way.pop(handle.id) == result.trial
        self.done[handle.id] = result

    def reuse(self, trial: Trial, key: str, *, accept: Any) -> TrialResult | None:
        if key in self.known:
            self.done[len(self.done) + len(self.under_way)] = self.known[key]
        return self.known.get(key)

    def has_result(self, key: str, *, accept: Any) -> bool:
        return key in self.known


@dataclass
class Workers:
    """An executor whose runs end in a random order, each when it is looked at."""

    slots: int
    workers: int
    landscape: int
    chance: Random
    waiting: list[tuple[Trial, Future[TrialResult]]] = field(default_factory=list)
    submitted: list[Trial] = field(default_factory=list)
    cancelled: list[Trial] = field(default_factory=list)

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def submit(self, trial: Trial, on_progress: OnProgress) -> Future[TrialResult]:
        assert trial not in [waiting for waiting, _ in self.waiting]
        future: Future[TrialResult] = Future()
        self.waiting.append((trial, future))
        self.submitted.append(trial)
        assert len(self.waiting) <= self.workers
        return future

    def cancel(self, trial: Trial) -> None:
        self.cancelled.append(trial)
        self.waiting = [entry for entry in self.waiting if entry[0] != trial]

    def end_one(self) -> None:
        """One of those that run, which are the first `slots`."""
        running = self.waiting[: self.slots]
        trial, future = self.chance.choice(running)
        self.waiting.remove((trial, future))
        future.set_result(outcome(trial, self.landscape))


def drive(
    monkeypatch: pytest.MonkeyPatch,
    protocol: Protocol,
    slots: int,
    landscape: int,
    *,
    workers: int | None = None,
    notes: Notes | None = None,
) -> tuple[list[TrialResult], Workers]:
    notes = notes or Notes()
    executor = Workers(slots, workers or slots, landscape, Random(landscape))

    def wait(running: Sequence[Future[TrialResult]], **_: Any) -> Any:
        executor.end_one()
        return SimpleNamespace(done=[future for future in running if future.done()])

    monkeypatch.setattr("d90.experiments.scheduler.wait", wait)
    problem = SimpleNamespace(key=str)
    fake = SimpleNamespace(protocol=protocol, problem=problem, scored=list, has_score=None)
    study = cast(Study, fake)
    Scheduler(study, cast(StudyStore, notes), executor, Callback()).run()
    assert notes.under_way == {}
    assert executor.waiting == []
    return notes.results(), executor


@pytest.mark.parametrize("landscape", range(12))
@pytest.mark.parametrize("slots", [2, 3, 7, 40])
def test_results_do_not_depend_on_the_number_of_workers(
    monkeypatch: pytest.MonkeyPatch, landscape: int, slots: int
) -> None:
    alone, one = drive(monkeypatch, SEARCH, 1, landscape)
    concurrent, many = drive(monkeypatch, SEARCH, slots, landscape)
    assert {result.trial: result for result in concurrent} == {r.trial: r for r in alone}
    assert one.submitted == [result.trial for result in alone]
    assert len({*many.submitted}) >= len(concurrent)


def test_idle_workers_run_speculative_trials_that_are_cancelled_once_impossible(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runs = [drive(monkeypatch, SEARCH, 12, landscape)[1] for landscape in range(6)]
    assert all(len(executor.submitted) > 10 for executor in runs)
    assert sum(len(executor.cancelled) for executor in runs) > 0


def test_a_queuing_executor_gets_the_whole_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    results, executor = drive(monkeypatch, EVERY, 2, 0, workers=100)
    assert len(results) == len(EVERY.dimensions()) + 2
    assert executor.cancelled == []


def test_trials_in_the_store_are_not_run_speculatively(monkeypatch: pytest.MonkeyPatch) -> None:
    alone, _ = drive(monkeypatch, SEARCH, 1, 3)
    notes = Notes(known={str(result.trial): result for result in alone})
    again, executor = drive(monkeypatch, SEARCH, 12, 3, notes=notes)
    assert {result.trial for result in again} == {result.trial for result in alone}
    assert not {*executor.submitted} & {result.trial for result in alone}


def test_speculation_covers_both_sides_of_the_bisection() -> None:
    results = [TrialResult(trial, "ok", metric=0.8) for trial in SEARCH.baseline()]
    dims = SEARCH.dimensions()
    middle = (len(dims) - 1) // 2
    assert {trial.d for trial in SEARCH.next_trials(results)} == {dims[middle]}
    speculative = [trial.d for trial in speculative_trials(SEARCH, results, 4)]
    below, above = (middle - 1) // 2, (middle + len(dims)) // 2
    assert {*speculative} == {dims[below], dims[above]}


def test_during_the_baseline_the_first_step_is_speculative() -> None:
    results = [TrialResult(trial, "ok", metric=0.8) for trial in SEARCH.baseline()]
    assert speculative_trials(SEARCH, [], 1) == SEARCH.next_trials(results)
    results = [TrialResult(trial, "ok", metric=0.8) for trial in EVERY.baseline()]
    assert speculative_trials(EVERY, [], 1000) == EVERY.next_trials(results)


def test_a_finished_protocol_has_no_speculative_trials() -> None:
    results: list[TrialResult] = []
    while due := SEARCH.next_trials(results):
        results += [outcome(trial, 1) for trial in due]
    assert speculative_trials(SEARCH, results, 10) == []
    assert (
        speculative_trials(EVERY, [outcome(trial, 1) for trial in EVERY.next_trials([])], 10) == []
    )
