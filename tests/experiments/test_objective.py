"""`d90.search`: a user's own training is measured as a model on a task is."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from tests.helpers.own import COMMON, Counted, brittle, score, search
from tests.helpers.simulated import WORLD

import d90
from d90.errors import D90Error
from d90.experiments.callbacks import Callback
from d90.experiments.objective import Objective
from d90.search.estimate import estimate
from d90.search.protocols import AdaptiveProtocol, GridProtocol, ListProtocol, Protocol
from d90.search.summary import Summary
from d90.search.trial import Trial, TrialResult
from d90.storage.store import Store

ADAPTIVE = AdaptiveProtocol(budget=9)
LISTED = ListProtocol(dims=(30, 100, 3000), learning_rates=(0.004,))


class Log(Callback):
    """What happened to each trial."""

    def __init__(self) -> None:
        self.began: list[Trial] = []
        self.ended: list[tuple[Trial, bool]] = []
        self.taken = 0

    def on_trial_begin(self, trial: Trial) -> None:
        self.began.append(trial)

    def on_trial_end(
        self, study: d90.Study, result: TrialResult, results: Sequence[TrialResult], *, reused: bool
    ) -> None:
        self.ended.append((result.trial, reused))

    def on_results_taken_over(
        self, study: d90.Study, count: int, results: Sequence[TrialResult]
    ) -> None:
        self.taken = count


def by_hand(protocol: Protocol) -> list[TrialResult]:
    """The results that the protocol asks for, one after another."""
    size = WORLD.evaluation_size
    protocol = protocol.for_task(majority=WORLD.majority, evaluation_size=size).begin(workers=1)
    results: list[TrialResult] = []
    while requested := protocol.next_trials(results):
        results.append(score(requested[0]))
    return results


@pytest.mark.parametrize("protocol", [ADAPTIVE, LISTED], ids=["adaptive", "list"])
def test_the_trials_and_the_answer_are_those_of_the_protocol(
    protocol: Protocol, tmp_path: Path
) -> None:
    counted, log = Counted(), Log()
    summary = search(counted, tmp_path / "d90.db", protocol, callback=log)
    expected = by_hand(protocol)
    assert counted.trials == log.began == [result.trial for result in expected]
    assert log.ended == [(trial, False) for trial in counted.trials]
    assert [(r.status, r.metric) for r in summary.trials] == [
        (r.status, r.metric) for r in expected
    ]
    answer = estimate(
        expected,
        majority=WORLD.majority,
        evaluation_size=WORLD.evaluation_size,
        dims=protocol.dimensions(),
        D=10**6,
    )
    assert (summary.status, summary.reason) == (answer.status, answer.reason)
    assert (summary.d90, summary.interval, summary.band) == (
        answer.d90,
        answer.interval,
        answer.band,
    )
    assert (summary.title, summary.D, summary.examples) == (
        "simulated",
        10**6,
        {"metric": WORLD.evaluation_size},
    )


def test_a_finished_trial_is_never_repeated(tmp_path: Path) -> None:
    store, first, again = tmp_path / "d90.db", Counted(), Counted()
    summary = search(first, store, LISTED)
    resumed = search(again, store, LISTED)
    assert (len(first.trials), again.trials) == (5, [])
    assert (resumed.trials, resumed.d90) == (summary.trials, summary.d90)
    (study,) = Store(store).studies()
    assert study.name.startswith("simulated-")
    assert study.facts == {"D": 10**6, "majority": WORLD.majority, "command": ""}
    assert {k: v for k, v in study.settings.items() if k != "protocol"} == {
        "objective": "simulated",
        "settings": {"world": WORLD.number},
        "criterion": "accuracy",
    }


def test_protocols_share_trials_and_settings_separate_them(tmp_path: Path) -> None:
    store, log, other = tmp_path / "d90.db", Log(), Counted()
    search(score, store, LISTED)
    search(score, store, ListProtocol(dims=(100,), learning_rates=(0.004,)), callback=log)
    assert log.began == [] and len(log.ended) == 3 and all(reused for _, reused in log.ended)
    log = Log()
    search(score, store, ADAPTIVE, callback=log)
    assert log.taken == 3  # The baseline is reused when it is requested.
    for changes in ({"settings": {"world": "another"}}, {"name": "another"}):
        other = Counted()
        search(other, store, LISTED, **changes)
        assert len(other.trials) == 5


def resume(path: Path, die_after: int, connection: Connection) -> None:
    """Run the study in a process of its own, which is killed in its trial number `die_after`."""
    counted = Counted()

    def objective(trial: Trial) -> TrialResult:
        if len(counted.trials) == die_after:
            os.kill(os.getpid(), signal.SIGKILL)
        return counted(trial)

    summary = search(objective, path, ADAPTIVE)
    connection.send((summary, counted.trials))


def test_a_study_that_is_killed_ends_as_one_left_alone(tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])

    def run(die_after: int) -> tuple[Summary, list[Trial]] | None:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=resume, args=(tmp_path / "d90.db", die_after, theirs))
        process.start()
        theirs.close()
        try:
            return ours.recv()
        except EOFError:
            return None
        finally:
            process.join()

    assert run(1) is run(4) is None
    answer = run(-1)
    assert answer is not None
    killed, ran = answer
    alone = search(score, tmp_path / "alone.db", ADAPTIVE)
    assert len(ran) == len(alone.trials) - 5  # One and four had finished.
    assert [(r.trial, r.metric) for r in killed.trials] == [
        (r.trial, r.metric) for r in alone.trials
    ]
    assert (killed.d90, killed.interval, killed.band) == (alone.d90, alone.interval, alone.band)


@pytest.mark.slow
def test_two_workers_give_the_answer_of_one(tmp_path: Path) -> None:
    one = search(brittle, tmp_path / "one.db", LISTED)
    two = search(brittle, tmp_path / "two.db", LISTED, executor="processes", workers=2)
    assert [(r.trial, r.status, r.metric, r.message) for r in two.trials] == [
        (r.trial, r.status, r.metric, r.message) for r in one.trials
    ]
    assert (two.d90, two.interval, two.band) == (one.d90, one.interval, one.band)
    assert [r.trial.d for r in two.trials if r.status == "failed"] == [100]


def test_a_trial_that_raises_has_failed_and_is_tried_again(tmp_path: Path) -> None:
    store, again = tmp_path / "d90.db", Counted()
    summary = search(brittle, store, LISTED)
    (failed,) = (result for result in summary.trials if result.status == "failed")
    assert (failed.trial.d, failed.message) == (100, "RuntimeError: out of luck")
    assert len(summary.trials) == 5
    search(again, store, LISTED)
    assert again.trials == [failed.trial]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), D90Error("the data are gone")])
def test_what_ends_the_study_passes_through(error: BaseException, tmp_path: Path) -> None:
    store, counted = tmp_path / "d90.db", Counted()

    def objective(trial: Trial) -> TrialResult:
        if trial.d is not None:
            raise error
        return counted(trial)

    with pytest.raises(type(error)):
        search(objective, store, LISTED)
    again = Counted()
    search(again, store, LISTED)
    assert (len(counted.trials), len(again.trials)) == (2, 3)


def test_an_objective_that_cannot_be_pickled(tmp_path: Path) -> None:
    with pytest.raises(D90Error, match="define it at a module's top level") as raised:
        search(lambda trial: 0.5, tmp_path / "d90.db", LISTED, executor="processes", workers=2)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "d90.db").exists()


def test_a_pretrained_model_that_passes_itself(tmp_path: Path) -> None:
    objective: Callable[[Trial], float] = lambda trial: 0.8  # noqa: E731
    options: dict[str, Any] = {"floor": 0.75, "floor_name": "pretrained model"}
    summary = search(objective, tmp_path / "d90.db", LISTED, **options)
    assert summary.status == "already-satisfied"
    other = search(objective, tmp_path / "d90.db", LISTED, **{**options, "floor_name": "coin"})
    assert other.status == "trivial-threshold"
    assert other.reason.endswith("is not above the coin (0.7500), which would pass")


def test_dims_in_place_of_a_protocol(tmp_path: Path) -> None:
    counted = Counted()
    d90.search(counted, name="own", dims=(50, 5), store=tmp_path / "d90.db")
    assert {trial.d for trial in counted.trials} == {None, 5, 50}
    with pytest.raises(D90Error, match="give one"):
        d90.search(counted, name="own", dims=(5,), protocol=LISTED, store=tmp_path / "d90.db")


def test_the_default_protocol_ends_at_D(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[Protocol] = []
    monkeypatch.setattr(
        "d90.experiments.objective.run_with_store", lambda study, *_, **__: seen.append(study)
    )
    d90.search(score, name="own", D=5000, store=tmp_path / "d90.db")
    d90.search(score, name="own", store=tmp_path / "d90.db")
    largest = [study.protocol.dimensions()[-1] for study in seen]  # type: ignore[attr-defined]
    assert largest[0] <= 5000 < largest[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": " "}, "name is ' '"),
        ({"name": "two\nlines"}, "expected a name, in one line"),
        ({"metric": "nll"}, "give another name"),
        ({"floor": 1.0}, "floor is 1.0"),
        ({"floor": -0.5}, "floor is -0.5"),
        ({"floor": float("nan")}, "floor is nan"),
        ({"settings": {"model": object()}}, "expected a mapping of JSON values"),
        ({"settings": [1, 2]}, "expected a mapping of JSON values"),
        ({"D": 500}, "d = 3,000 is above D = 500"),
        ({"D": 0}, "D has 0"),
        ({"evaluation_size": 0.5}, "evaluation_size has 0.5"),
        ({"workers": 2}, "choose 'processes'"),
    ],
)
def test_invalid_arguments(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    counted = Counted()
    with pytest.raises(D90Error, match=message):
        search(counted, tmp_path / "d90.db", LISTED, **changes)
    assert counted.trials == []


def test_a_problem_of_a_study(tmp_path: Path) -> None:
    problem = Objective(score, "own", majority=WORLD.majority)
    protocol = GridProtocol(min_dim=10, max_dim=1000, num_dims=2, learning_rates=(0.004,))
    summary = d90.run_study(d90.Study(problem, protocol), d90.Store(tmp_path / "d90.db"))
    assert len(summary.trials) == 4
    assert d90.Study(problem, protocol).name.startswith("own-")
    assert COMMON["name"] != summary.objective == "own"
