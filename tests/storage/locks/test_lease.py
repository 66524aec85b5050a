"""The lease of databases that many hosts reach; the file lock is tested with the store."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from optuna.storages import BaseStorage, RDBStorage
from optuna.study import StudyDirection

from d90.errors import D90Error
from d90.search.trial import Trial, TrialResult
from d90.storage.locks import DRIVER, LeaseLock
from d90.storage.locks import lease as module
from d90.storage.store import Store


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> BaseStorage:
    return RDBStorage(f"sqlite:///{tmp_path_factory.mktemp('lease')}/d90.db")


@pytest.fixture
def study_id(storage: BaseStorage) -> int:
    return storage.create_new_study([StudyDirection.MAXIMIZE])


def lease(**changes: Any) -> dict[str, Any]:
    """A lease that binds: of another host, good for a day (it is made when tests are collected)."""
    owner = {"pid": 1234, "host": "elsewhere", "token": "other", "expires": time.time() + 86_400}
    return owner | changes


def quick(storage: BaseStorage, study_id: int, seconds: float = 60.0) -> LeaseLock:
    return LeaseLock(storage, study_id, "mrpc-did", seconds=seconds, settle=0.0)


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_held_and_released(storage: BaseStorage, study_id: int) -> None:
    with quick(storage, study_id) as lock:
        lock.check()
        owner = storage.get_study_user_attrs(study_id)[DRIVER]
        assert (owner["pid"], owner["host"]) == (os.getpid(), socket.gethostname())
        with (
            pytest.raises(D90Error, match=f"'mrpc-did' is already .* process {os.getpid()} on"),
            quick(storage, study_id),
        ):
            pass
        lock.check()
    assert storage.get_study_user_attrs(study_id)[DRIVER] is None
    with quick(storage, study_id):
        pass


@pytest.mark.parametrize(
    "owner",
    [
        lease(),
        lease(pid=os.getpid()),
        lease(host=socket.gethostname(), pid=os.getppid()),
    ],
    ids=["another host", "another host, our process id", "this host, alive"],
)
def test_a_lease_that_binds(storage: BaseStorage, study_id: int, owner: dict[str, Any]) -> None:
    storage.set_study_user_attr(study_id, DRIVER, owner)
    message = f"process {owner['pid']} on {owner['host']}: wait"
    with pytest.raises(D90Error, match=message), quick(storage, study_id):
        pass
    assert storage.get_study_user_attrs(study_id)[DRIVER] == owner


@pytest.mark.parametrize(
    "owner",
    [
        lease(expires=time.time() - 1),
        lease(host=socket.gethostname(), pid=os.getppid(), expires=time.time() - 1),
        lease(host=socket.gethostname(), pid=dead_process()),
        lease(host=socket.gethostname(), pid=os.getpid()),
    ],
    ids=["not renewed", "not renewed here", "dead", "our process id before a restart"],
)
def test_a_lease_that_is_free(storage: BaseStorage, study_id: int, owner: dict[str, Any]) -> None:
    storage.set_study_user_attr(study_id, DRIVER, owner)
    with quick(storage, study_id) as lock:
        lock.check()


def test_it_is_renewed(storage: BaseStorage, study_id: int) -> None:
    with quick(storage, study_id, seconds=0.2):
        first = storage.get_study_user_attrs(study_id)[DRIVER]["expires"]
        deadline = time.monotonic() + 5
        while storage.get_study_user_attrs(study_id)[DRIVER]["expires"] == first:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_a_driver_that_was_replaced_stops(storage: BaseStorage, study_id: int) -> None:
    with quick(storage, study_id, seconds=0.1) as lock:
        storage.set_study_user_attr(study_id, DRIVER, lease())
        lock._renewal.join(timeout=5)
        assert not lock._renewal.is_alive()
        with pytest.raises(D90Error, match="process 1234 on elsewhere"):
            lock.check()
    assert storage.get_study_user_attrs(study_id)[DRIVER]["token"] == "other"


def test_of_two_writers_the_last_one_holds_it(
    storage: BaseStorage, study_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def another_writes(seconds: float) -> None:
        storage.set_study_user_attr(study_id, DRIVER, lease())

    monkeypatch.setattr(module.time, "sleep", another_writes)
    with pytest.raises(D90Error, match="on elsewhere"), quick(storage, study_id):
        pass


def test_a_study_under_a_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store as it is on a server: every write is refused once the lease is lost."""
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)
    store, trial = Store(tmp_path / "d90.db"), Trial(10, 0.01)
    monkeypatch.setattr(store, "_file", None)  # So that it has no lock file.
    with store.study({"a": 1}, "x") as study:
        handle = study.start(trial, "key")
        study.finish(handle, TrialResult(trial, "ok", metric=0.5))
        running = study.start(Trial(20, 0.01), "other")
        store._storage.set_study_user_attr(study._study_id, DRIVER, lease())
        for write in (
            lambda: study.start(Trial(30, 0.01), "third"),
            lambda: study.finish(running, TrialResult(running.trial, "ok", metric=0.5)),
            lambda: study.reuse(Trial(30, 0.01), "key"),
            lambda: study.set_facts({"D": 1}),
        ):
            with pytest.raises(D90Error, match="on elsewhere"):
                write()
    assert store.results(study.name) == [TrialResult(trial, "ok", metric=0.5)]
