"""The lock of PostgreSQL, on a server of one's own: held, lost, taken again, taken over."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from tests.helpers.postgres import Server

from d90.errors import D90Error, StudyLockedError
from d90.search.trial import Trial, TrialResult
from d90.storage import database
from d90.storage.database import connect_arguments, parse_url
from d90.storage.locks import advisory as module
from d90.storage.locks.advisory import AdvisoryLock
from d90.storage.locks.base import DRIVER
from d90.storage.store import Store, StudyStore

SETTINGS, TRIAL = {"driver": 1}, Trial(10, 0.01)


def name_of(url: str) -> str:
    return url.rsplit("/", 1)[1]


def ok(trial: Trial = TRIAL) -> TrialResult:
    return TrialResult(trial, "ok", metric=0.5)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No driver is dying in these tests, so a held lock need not be waited for."""
    monkeypatch.setattr(module, "ENDING_SECONDS", 0.1)


def lock_of(url: str, study_id: int, watch: float = 60.0) -> AdvisoryLock:
    store = Store(url)
    return AdvisoryLock(store._database, store._storage, study_id, "mrpc-did", watch=watch)


@pytest.fixture
def study_id(postgres_url: str) -> int:
    with Store(postgres_url).study(SETTINGS, "x") as study:
        return study._study_id


def locked(postgres: Server, url: str) -> list[int]:
    """Server processes that hold an advisory lock."""
    rows = postgres.execute(
        "SELECT pid FROM pg_locks JOIN pg_database ON pg_database.oid = database "
        f"WHERE locktype = 'advisory' AND granted AND datname = '{name_of(url)}'"
    )
    return [pid for (pid,) in rows]


def test_held_and_released(postgres: Server, postgres_url: str, study_id: int) -> None:
    with lock_of(postgres_url, study_id) as lock:
        lock.check()
        assert len(locked(postgres, postgres_url)) == 1
        message = f"'mrpc-did' is already being run by process {os.getpid()} on "
        with pytest.raises(D90Error, match=message), lock_of(postgres_url, study_id):
            pass
        lock.check()
        assert len(locked(postgres, postgres_url)) == 1
    assert locked(postgres, postgres_url) == []
    assert Store(postgres_url)._storage.get_study_user_attrs(study_id)[DRIVER] is None
    with lock_of(postgres_url, study_id):
        pass


def test_two_studies_at_once(postgres_url: str) -> None:
    store = Store(postgres_url)
    with store.study(SETTINGS, "x"), store.study({"driver": 2}, "x"):
        pass


def test_a_broken_connection_is_noticed_and_the_lock_taken_again(
    postgres: Server, postgres_url: str, study_id: int
) -> None:
    with lock_of(postgres_url, study_id) as lock:
        (first,) = locked(postgres, postgres_url)
        postgres.drop_connections(name_of(postgres_url))
        assert locked(postgres, postgres_url) == []
        lock.check()
        (second,) = locked(postgres, postgres_url)
        assert first != second


def test_it_is_taken_again_while_a_run_trains(
    postgres: Server, postgres_url: str, study_id: int
) -> None:
    with lock_of(postgres_url, study_id, watch=0.1):
        postgres.drop_connections(name_of(postgres_url))
        deadline = time.monotonic() + 10
        while not locked(postgres, postgres_url):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_lock_that_the_server_does_not_know_is_lost(
    postgres: Server, postgres_url: str, study_id: int
) -> None:
    """As behind a pooler: the connection lives, the session is another."""
    with lock_of(postgres_url, study_id) as lock:
        assert lock._connection is not None
        lock._connection.exec_driver_sql("SELECT pg_advisory_unlock_all()")
        assert not lock._holds()
        lock.check()
        assert lock._holds()


@pytest.mark.parametrize("is_still_there", [True, False], ids=["there", "gone again"])
def test_taken_over(postgres: Server, postgres_url: str, is_still_there: bool) -> None:
    """The old driver writes nothing any more, also when the new one has come and gone."""
    store = Store(postgres_url)
    with store.study(SETTINGS, "x") as old:
        running = old.start(TRIAL, "key")
        postgres.drop_connections(name_of(postgres_url))
        with Store(postgres_url).study(SETTINGS, "x") as new:
            new.finish(new.start(TRIAL, "key"), ok())
            if is_still_there:
                assert_refused(old, running)
        assert_refused(old, running)
    assert Store(postgres_url).results(old.name) == [ok()]
    trials = store._storage.get_all_trials(old._study_id)
    assert [trial.state.name for trial in trials] == ["FAIL", "COMPLETE"]


def assert_refused(old: StudyStore, running: object) -> None:
    for write in (
        lambda: old.start(Trial(30, 0.01), "third"),
        lambda: old.finish(running, ok()),  # pyright: ignore[reportArgumentType]
        lambda: old.set_facts({"D": 1}),
    ):
        with pytest.raises(
            StudyLockedError, match=r"was taken over by .*: this one stops; rerun the command"
        ):
            write()


def test_a_session_of_ours_that_the_server_takes_for_alive(
    postgres: Server, postgres_url: str, study_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that broke in between: the server keeps the lock until TCP finds out."""
    with lock_of(postgres_url, study_id) as lock:
        ghost, lock._connection = lock._connection, None
        assert ghost is not None
        threading.Timer(0.5, ghost.close).start()
        lock.check()
        assert lock._holds()


def test_either_end_finds_out_within_the_time_that_is_promised(postgres_url: str) -> None:
    with Store(postgres_url).study(SETTINGS, "x") as study:
        connection = study._lock._connection  # pyright: ignore[reportAttributeAccessIssue]
        shown = [
            int(connection.exec_driver_sql(f"SHOW tcp_keepalives_{name}").scalar())
            for name in ("idle", "interval", "count")
        ]
        assert shown[0] + shown[1] * shown[2] == database.DROPPED_SECONDS
        assert f"d90 {study.name}" == connection.exec_driver_sql("SHOW application_name").scalar()
        ours = connection.connection.driver_connection
        assert isinstance(ours, psycopg.Connection)
        with socket.socket(fileno=os.dup(ours.fileno())) as wire:
            assert wire.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == shown[0]
            assert wire.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000


def test_what_the_url_says_wins() -> None:
    url = parse_url("postgresql://user@host/d90?connect_timeout=3")
    assert "connect_timeout" not in connect_arguments(url)
    assert connect_arguments(parse_url("postgresql+pg8000://host/x")) == {}


DRIVER_CODE = """
import sys, time
from d90.search.trial import Trial
from d90.storage.store import Store
with Store(sys.argv[1]).study({"driver": 1}, "x") as study:
    study.start(Trial(10, 0.01), "key")
    print(study.name, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def driver(postgres_url: str) -> Iterator[subprocess.Popen[str]]:
    """The study's driver, in a process of its own."""
    command = [sys.executable, "-c", DRIVER_CODE, postgres_url]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline()
    yield process
    process.kill()
    process.wait()


def test_a_driver_that_was_killed_keeps_nothing(
    postgres_url: str, driver: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(D90Error, match=f"already being run by process {driver.pid} on"):
        Store(postgres_url).study(SETTINGS, "x").__enter__()
    monkeypatch.undo()  # A dead driver's connection ends a moment later.
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    started = time.monotonic()
    with Store(postgres_url).study(SETTINGS, "x") as study:
        assert time.monotonic() - started < 2
        assert study.results() == []


def test_a_stopped_driver_loses_its_lock_with_its_connection(
    postgres: Server, postgres_url: str, driver: subprocess.Popen[str]
) -> None:
    driver.send_signal(signal.SIGSTOP)
    postgres.drop_connections(name_of(postgres_url))
    with Store(postgres_url).study(SETTINGS, "x") as study:
        study.finish(study.start(TRIAL, "key"), ok())


class TestAway:
    """A server that goes away under a study, and comes back or does not."""

    def test_connections_end_between_two_writes(self, postgres: Server, postgres_url: str) -> None:
        with Store(postgres_url).study(SETTINGS, "x") as study:
            handle = study.start(TRIAL, "key")
            postgres.drop_connections(name_of(postgres_url))
            study.finish(handle, ok())
            postgres.drop_connections(name_of(postgres_url))
            other = study.start(Trial(20, 0.01), "other")
            postgres.drop_connections(name_of(postgres_url))
            assert study.reuse(Trial(30, 0.01), "key") == ok(Trial(30, 0.01))
            study.finish(other, ok(other.trial))
        assert len(Store(postgres_url).results(study.name)) == 3

    @pytest.mark.parametrize("crash", [False, True], ids=["restart", "crash"])
    def test_the_server_is_away_for_a_moment(
        self, crash: bool, postgres: Server, postgres_url: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        with Store(postgres_url).study(SETTINGS, "x") as study:
            handle = study.start(TRIAL, "key")
            postgres.stop(crash=crash)
            threading.Timer(1.0, postgres.start).start()
            study.finish(handle, ok())
        first, last = [result.getMessage() for result in caplog.records]
        assert "does not answer (" in first and "trying again for 60 seconds" in first
        assert "answers again: the study goes on" in last
        assert "\n" not in first + last
        assert Store(postgres_url).results(study.name) == [ok()]

    def test_it_stays_away(self, postgres: Server, postgres_url: str) -> None:
        def study_whose_server_goes() -> None:
            with Store(postgres_url, retry_seconds=1.0).study(SETTINGS, "x") as study:
                handle = study.start(TRIAL, "key")
                study.finish(handle, ok())
                lost = study.start(Trial(20, 0.01), "lost")
                postgres.stop()
                study.finish(lost, ok(lost.trial))

        try:
            message = "did not answer for 1 seconds: .*; when it can be reached, rerun the command"
            with pytest.raises(D90Error, match=message) as error:
                study_whose_server_goes()
            assert "\n" not in str(error.value)
        finally:
            postgres.start()
        with Store(postgres_url).study(SETTINGS, "x") as study:
            assert study.results() == [ok()]
            study.finish(study.start(Trial(20, 0.01), "lost"), ok(Trial(20, 0.01)))

    def test_a_server_that_is_not_there_is_said_at_once(self, tmp_path: Path) -> None:
        started = time.monotonic()
        with pytest.raises(D90Error, match=r"cannot be used: .*check that it can be reached"):
            Store("postgresql://d90@127.0.0.1:1/x")
        assert time.monotonic() - started < 10


class Unsure:
    """A connection that breaks after the server has written, and before it has said so."""

    def __init__(self, function: object, times: int = 1) -> None:
        self.function, self.left = function, times

    def __call__(self, *arguments: object, **named: object) -> object:
        done = self.function(*arguments, **named)  # pyright: ignore[reportCallIssue]
        if self.left:
            self.left -= 1
            raise module.DBAPIError("COMMIT", {}, OSError("lost"), connection_invalidated=True)
        return done


@pytest.mark.parametrize(
    "method", ["create_new_trial", "set_trial_user_attr", "set_trial_state_values"]
)
def test_what_is_written_twice_is_there_once(
    method: str, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "PAUSE_SECONDS", 0.0)
    store = Store(postgres_url)
    with store.study(SETTINGS, "x") as study:
        study.finish(study.start(TRIAL, "key"), ok())
        monkeypatch.setattr(store._storage, method, Unsure(getattr(store._storage, method)))
        study.finish(study.start(Trial(20, 0.01), "other"), ok(Trial(20, 0.01)))
        monkeypatch.setattr(store._storage, method, Unsure(getattr(store._storage, method)))
        study.reuse(Trial(30, 0.01), "key")
        trials = store._storage.get_all_trials(study._study_id)
        running = [trial for trial in trials if not trial.state.is_finished()]
        assert running == []
    kept = [trial for trial in trials if "record" in trial.user_attrs]
    assert sorted(trial.user_attrs["trial"]["d"] for trial in kept) == [10, 20, 30]
    assert {trial.state.name for trial in kept} == {"COMPLETE"}
    assert len(Store(postgres_url).results(study.name)) == 3
