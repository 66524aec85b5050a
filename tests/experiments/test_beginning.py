"""What an adaptive study takes over from others when it begins, and keeps when it is resumed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.helpers.simulated import WORLD, Workers, problem_of

from d90.experiments import measure
from d90.experiments.callbacks import Callback
from d90.experiments.measure import run_study
from d90.experiments.study import Study
from d90.search.protocols import AdaptiveProtocol, ListProtocol, Protocol
from d90.search.trial import Trial, TrialResult
from d90.storage.store import Store


class Log(Callback):
    def __init__(self) -> None:
        self.taken: list[int] = []

    def on_results_taken_over(
        self, study: Study, count: int, results: Sequence[TrialResult]
    ) -> None:
        assert len(results) >= count
        self.taken.append(count)


def ending(after: int, *, slots: int = 1) -> Workers:
    """Workers that are interrupted after a number of trials."""

    def interrupt() -> None:
        if len(workers.submitted) == after:
            raise KeyboardInterrupt

    workers = Workers(slots, interrupt)
    return workers


def go(
    store: Store, protocol: Protocol, workers: Workers | None = None, **identity: Any
) -> tuple[list[TrialResult], list[Trial], Log]:
    """The results of a study, the trials that were run for it, and what was notified."""
    study, workers, log = (
        Study(problem_of(WORLD, **identity), protocol),
        workers or Workers(),
        Log(),
    )
    summary = run_study(study, store, executor=workers, callback=log)
    return list(summary.trials), workers.submitted, log


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "d90.db")


ADAPTIVE = AdaptiveProtocol(budget=10)
LISTED = ListProtocol(dims=(30, 333, 1000, 3000, 500_000), learning_rates=(0.004, 0.006))
"""Some d are no rungs, or beyond the ladder, and one rate is not among the protocol's."""


def test_results_of_other_protocols_are_known_from_the_start(store: Store, tmp_path: Path) -> None:
    listed, _, log = go(store, LISTED)
    assert log.taken == []
    assert len(listed) == 12
    results, ran, log = go(store, AdaptiveProtocol())
    assert log.taken == [10]
    assert {r.trial for r in listed} < {r.trial for r in results}
    assert not {r.trial for r in listed} & {*ran}
    _, alone, _ = go(Store(tmp_path / "other.db"), AdaptiveProtocol())
    assert 0 < len(ran) < len(alone) - 2
    # The protocol does not count them towards its budget.
    small = AdaptiveProtocol(budget=6, interval_ratio=1.01)
    assert len(go(store, small)[0]) == 10 + 6


def test_other_models_and_other_adaptive_studies_are_left_alone(store: Store) -> None:
    go(store, LISTED, theta_0="other")
    assert go(store, ADAPTIVE)[2].taken == []
    assert go(store, AdaptiveProtocol(seeds=(500,)))[2].taken == []


def test_a_trial_of_another_key_is_left_alone(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    go(store, LISTED)
    problem = problem_of(WORLD)
    problem.key = lambda trial: f"trained otherwise {trial}"
    log = Log()
    run_study(Study(problem, ADAPTIVE), store, executor=Workers(), callback=log)
    assert log.taken == []


@pytest.mark.parametrize("ends_after", [0, 1, 3])
def test_a_resumed_study_ignores_what_others_have_added(
    store: Store, tmp_path: Path, ends_after: int
) -> None:
    first = ListProtocol(dims=(30, 3000), learning_rates=(0.004,))
    go(store, first)
    with pytest.raises(KeyboardInterrupt):
        go(store, ADAPTIVE, ending(ends_after))
    go(store, LISTED)
    results, _, log = go(store, ADAPTIVE)
    assert log.taken == []

    undisturbed = Store(tmp_path / "other.db")
    go(undisturbed, first)
    expected, _, log = go(undisturbed, ADAPTIVE)
    assert log.taken == [2]
    assert results == expected


def test_an_interruption_while_results_are_taken_over(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    go(store, LISTED)
    study = Study(problem_of(WORLD), ADAPTIVE)
    reuse, copied = measure.take_over, []

    def die(*arguments: Any) -> int:
        begun, opened, given = arguments
        copied.append(reuse(begun, opened, given[:4]))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(measure, "take_over", die)
        with pytest.raises(KeyboardInterrupt):
            run_study(study, store, executor=Workers())
    results, _, log = go(store, ADAPTIVE)
    assert (copied, log.taken) == ([4], [6])
    undisturbed = Store(tmp_path / "other.db")
    go(undisturbed, LISTED)
    assert {r.trial for r in go(undisturbed, ADAPTIVE)[0]} == {r.trial for r in results}


def test_rounds_have_a_trial_for_each_worker_and_keep_it(store: Store, tmp_path: Path) -> None:
    def rounds(batch: int | None, workers: int, path: str) -> list[Trial]:
        return go(
            Store(tmp_path / path), AdaptiveProtocol(budget=10, batch=batch), Workers(workers)
        )[1]

    assert rounds(None, 1, "a.db") == rounds(1, 3, "b.db")
    three = rounds(None, 3, "c.db")
    assert three == rounds(3, 1, "d.db") != rounds(1, 1, "e.db")
    with pytest.raises(KeyboardInterrupt):
        go(store, ADAPTIVE, ending(6, slots=3))
    more = go(store, ADAPTIVE, Workers(2))[1]
    assert len(store.studies()) == 1
    assert {*three[:6], *more} == {*three}


def test_the_beginning_is_no_setting() -> None:
    study = Study(problem_of(WORLD), ADAPTIVE)
    begun = Study(problem_of(WORLD), study.protocol.begin(workers=4, given=[Trial(10, 0.1, 3)]))
    assert begun.protocol != study.protocol
    assert begun.settings == study.settings
    assert {"workers", "given"}.isdisjoint(study.settings["protocol"])
    assert Study(problem_of(WORLD), AdaptiveProtocol(batch=4)).settings != study.settings
