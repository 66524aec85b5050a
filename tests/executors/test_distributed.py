"""A study that two processes make together: one drives, the other follows, both know the answer."""

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


class Told(Callback):
    """What was told, and an error in its place if there is one."""

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
    told, store = Told(), Path(place) / f"{rank}.db"
    about: dict[str, Any] = {"model": model, "task": task, "store": store, **OPTIONS}
    found = d90.measure(**about, callback=told)
    again = d90.measure(**about)
    broken = Told(RuntimeError("the screen is gone"))
    other = {**about, "store": Path(place) / f"other-{rank}.db"}
    return {
        "trials": found.trials,
        "answer": (found.d90, found.status),
        "again": again.trials,
        "told": told.trials,
        "store": store.exists(),
        "broken": attempt(**{**other, "callback": broken}),
        "no store": attempt(**{**about, "store": "/proc/nowhere/d90.db" if rank == 0 else store}),
        "no model": attempt(**{**about, "model": model if rank == 0 else "/proc/nowhere"}),
        "another head": attempt(**{**about, "head_seed": 3 + rank}),
        "processes": attempt(**{**about, "executor": "processes"}),
    }


@pytest.fixture(scope="module")
def both(
    ready_folder: Path, toy_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, Any]]:
    place = tmp_path_factory.mktemp("stores")
    return pair().run(study, str(ready_folder), str(toy_folder), str(place))


def test_both_have_the_records_of_one_process(both, ready_folder, toy_folder, tmp_path) -> None:
    one = d90.measure(str(ready_folder), toy_folder, store=tmp_path / "d90.db", **OPTIONS)
    first, second = both
    assert first["trials"] == second["trials"] == first["again"] == second["again"]
    assert len(one.trials) == 3
    assert [result.trial for result in first["trials"]] == [result.trial for result in one.trials]
    for process_group, alone in zip(first["trials"], one.trials, strict=True):
        # Other dropout, so another draw of the same.
        assert process_group.status == alone.status == "ok"
        assert process_group.metric == pytest.approx(alone.metric, abs=0.1)
    assert first["answer"] == second["answer"]


def test_the_first_process_alone_drives(both) -> None:
    first, second = both
    assert len(first["told"]) == 3
    assert second["told"] == []
    assert (first["store"], second["store"]) == (True, False)


def test_what_ends_the_first_process_ends_the_other(both) -> None:
    first, second = both
    assert first["broken"] == "RuntimeError: the screen is gone"
    assert second["broken"] == "D90Error: the screen is gone"
    assert second["no store"] == first["no store"]
    assert first["no store"].startswith("StorageError: cannot open store '/proc/nowhere/d90.db'")


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("no model", "D90Error: process 1: model '/proc/nowhere': there is no such"),
        ("another head", "D90Error: process 1 has other theta_0 than process 0"),
        ("processes", "D90Error: executor 'processes': a launcher's processes make each run"),
    ],
)
def test_both_refuse_what_one_cannot_do(both, what: str, says: str) -> None:
    first, second = (found[what] for found in both)
    assert first == second
    assert first.startswith(says)
