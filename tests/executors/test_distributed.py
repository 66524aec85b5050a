"""A study run by two processes: one leads, the other follows, and both return the results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.helpers.gloo import pair

import d90
from d90.experiments.callbacks import Callback
from d90.experiments.study import Study
from d90.search.protocols import ListProtocol
from d90.search.trial import Trial, TrialResult
from d90.training import TrainConfig

OPTIONS: Mapping[str, Any] = {
    "training": TrainConfig(max_steps=12, batch_size=8, precision="no"),
    "protocol": ListProtocol(
        dims=(10, 50), learning_rates=(0.01,), baseline_learning_rates=(0.01,)
    ),
    "head_seed": 3,
    "max_length": 16,
}


class RecordingCallback(Callback):
    """Records the finished trials, and raises an error after each if one is given."""

    def __init__(self, error: Exception | None = None) -> None:
        self.trials: list[Trial] = []
        self._error = error

    def on_trial_end(
        self, study: Study, result: TrialResult, results: Sequence[TrialResult], *, reused: bool
    ) -> None:
        self.trials.append(result.trial)
        if self._error is not None:
            raise self._error


def attempt(**options: Any) -> str:
    try:
        d90.measure(**{**OPTIONS, **options})
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "none"


def study(rank: int, model: str, task: str, place: str) -> dict[str, Any]:
    callback, store = RecordingCallback(), Path(place) / f"{rank}.db"
    arguments: dict[str, Any] = {"model": model, "task": task, "store": store, **OPTIONS}
    summary = d90.measure(**arguments, callback=callback)
    again = d90.measure(**arguments)
    broken = RecordingCallback(RuntimeError("the terminal was closed"))
    other = {**arguments, "store": Path(place) / f"other-{rank}.db"}
    return {
        "trials": summary.trials,
        "answer": (summary.d90, summary.status),
        "again": again.trials,
        "reported": callback.trials,
        "store": store.exists(),
        "broken": attempt(**{**other, "callback": broken}),
        "no store": attempt(
            **{**arguments, "store": "/proc/nowhere/d90.db" if rank == 0 else store}
        ),
        "no model": attempt(**{**arguments, "model": model if rank == 0 else "/proc/nowhere"}),
        "another head": attempt(**{**arguments, "head_seed": 3 + rank}),
        "processes": attempt(**{**arguments, "executor": "processes"}),
    }


@pytest.fixture(scope="module")
def ranks(
    ready_folder: Path, toy_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, Any]]:
    place = tmp_path_factory.mktemp("stores")
    return pair().run(study, str(ready_folder), str(toy_folder), str(place))


def test_both_processes_have_the_results_of_one(ranks, ready_folder, toy_folder, tmp_path) -> None:
    one = d90.measure(str(ready_folder), toy_folder, store=tmp_path / "d90.db", **OPTIONS)
    first, second = ranks
    assert first["trials"] == second["trials"] == first["again"] == second["again"]
    assert len(one.trials) == 3
    assert [result.trial for result in first["trials"]] == [result.trial for result in one.trials]
    for result, alone in zip(first["trials"], one.trials, strict=True):
        # Dropout masks differ, so the metrics are close but not equal.
        assert result.status == alone.status == "ok"
        assert result.metric == pytest.approx(alone.metric, abs=0.1)
    assert first["answer"] == second["answer"]


def test_only_the_first_process_has_a_store_and_a_callback(ranks) -> None:
    first, second = ranks
    assert len(first["reported"]) == 3
    assert second["reported"] == []
    assert (first["store"], second["store"]) == (True, False)


def test_an_error_in_the_first_process_ends_the_other(ranks) -> None:
    first, second = ranks
    assert first["broken"] == "RuntimeError: the terminal was closed"
    assert second["broken"] == "D90Error: the terminal was closed"
    assert second["no store"] == first["no store"]
    assert first["no store"].startswith("StorageError: cannot open store '/proc/nowhere/d90.db'")


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("no model", "D90Error: process 1: model '/proc/nowhere': there is no such"),
        ("another head", "D90Error: process 1 has other theta_0 than process 0"),
        ("processes", "D90Error: executor 'processes': a launcher's processes run each trial"),
    ],
)
def test_an_error_in_one_process_is_raised_in_both(ranks, case: str, message: str) -> None:
    first, second = (rank[case] for rank in ranks)
    assert first == second
    assert first.startswith(message)
