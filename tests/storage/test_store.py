"""Trials in a database: identity, resume, reuse, one driver, and `kill -9`."""

from __future__ import annotations

import math
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.helpers.postgres import Server

from d90.errors import D90Error, StorageError, StudyLockedError
from d90.search.trial import Status, Trial, TrialResult
from d90.storage.store import Store, StudyStore

SETTINGS = {"model": "minilm-l6", "task": "mrpc", "learning_rates": [0.01, 0.02]}
TRIAL = Trial(100, 0.01, 0)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with its tables made, which takes most of a second."""
    path = tmp_path_factory.mktemp("store") / "d90.db"
    Store(path)
    return path


@pytest.fixture
def path(tmp_path: Path, empty_store: Path) -> Path:
    return Path(shutil.copy(empty_store, tmp_path))


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest) -> str | Path:
    """An empty store of either kind, as a user names it."""
    return request.getfixturevalue("path" if request.param == "sqlite" else "postgres_url")


def url_of(place: str | Path) -> str:
    """As Optuna wants it."""
    url = f"sqlite:///{place}" if isinstance(place, Path) else place
    return url.replace("postgresql://", "postgresql+psycopg://")


def ok(trial: Trial = TRIAL, metric: float = 0.75) -> TrialResult:
    return TrialResult(
        trial,
        "ok",
        metric=metric,
        train_metric=0.8,
        seconds=1.5,
        metrics={"validation/accuracy": metric, "validation/f1": 0.7},
        history=(
            {"epoch": 1, "step": 10, "loss": 0.6},
            {"epoch": 2, "step": 20, "loss": 0.1 + 0.2},
        ),
    )


class TestRecords:
    def test_round_trip_through_the_database(self, place: str | Path) -> None:
        results = [
            ok(),
            ok(Trial(None, 1e-4)),
            TrialResult(Trial(100, 0.02), "collapsed", metric=0.5),
            TrialResult(Trial(100, 0.025), "stopped", message="after 10 of 20 optimizer steps"),
            TrialResult(Trial(100, 0.03), "failed", message="CUDA out of memory"),
        ]
        with Store(place).study(SETTINGS, "mrpc-did") as study:
            for result in results:
                study.finish(study.start(result.trial, str(result.trial)), result)
            assert study.results() == results
        assert Store(place).results(study.name) == results
        with Store(place).study(SETTINGS, "mrpc-did") as study:
            assert study.results() == results[:-1]

    def test_what_is_not_finite_survives(self, place: str | Path) -> None:
        result = TrialResult(
            TRIAL,
            "diverged",
            metric=math.nan,
            metrics={"validation/loss": math.inf},
            history=({"epoch": 1, "loss": -math.inf},),
        )
        with Store(place).study(SETTINGS, "x") as study:
            study.finish(study.start(TRIAL, "key"), result)
        (back,) = Store(place).results(study.name)
        assert repr(back) == repr(result)

    @given(
        st.builds(
            TrialResult,
            trial=st.builds(
                Trial,
                st.none() | st.integers(1, 2**53),
                st.floats(1e-12, 1e3),
                st.integers(0, 2**64 - 1),
            ),
            status=st.sampled_from(get_args(Status)),
            metric=st.none() | st.floats(),
            train_metric=st.none() | st.floats(),
            seconds=st.floats(0, 1e9),
            metrics=st.dictionaries(st.text(), st.floats(), max_size=3),
            history=st.lists(
                st.dictionaries(st.text(), st.floats() | st.integers(), max_size=3), max_size=3
            ).map(tuple),
            message=st.text(),
        )
    )
    def test_encoding_loses_nothing(self, result: TrialResult) -> None:
        assert repr(TrialResult.from_json(result.to_json())) == repr(result)

    def test_reads_well_in_other_optuna_tools(self, place: str | Path) -> None:
        with Store(place).study(SETTINGS, "x") as study:
            study.finish(study.start(TRIAL, "a"), ok())
            study.finish(study.start(Trial(None, 1e-4), "b"), ok(Trial(None, 1e-4), 0.8))
            lost = Trial(100, 0.02)
            study.finish(study.start(lost, "c"), TrialResult(lost, "collapsed", metric=0.9))
        seen = optuna.load_study(study_name=study.name, storage=url_of(place))
        assert (seen.best_value, seen.user_attrs["settings"]) == (0.8, SETTINGS)
        states = [(trial.state.name, trial.value, trial.params) for trial in seen.trials]
        assert states == [
            ("COMPLETE", 0.75, {"d": 100, "learning_rate": 0.01, "seed": 0}),
            ("COMPLETE", 0.8, {"learning_rate": 1e-4, "seed": 0}),
            ("FAIL", None, {"d": 100, "learning_rate": 0.02, "seed": 0}),
        ]


class TestIdentity:
    def test_a_changed_setting_is_another_study(self, place: str | Path) -> None:
        store = Store(place)
        with store.study(SETTINGS, "mrpc") as one:
            one.finish(one.start(TRIAL, "key"), ok())
        with store.study(SETTINGS | {"learning_rates": [0.01]}, "mrpc") as other:
            assert other.results() == []
        assert one.name != other.name
        assert [study.name for study in store.studies()] == [one.name, other.name]
        assert store.studies()[0].settings == SETTINGS

    def test_the_order_of_settings_does_not_matter(self, place: str | Path) -> None:
        reordered = dict(reversed(SETTINGS.items()))
        with Store(place).study(SETTINGS, "x") as one:
            pass
        with Store(place).study(reordered, "x") as same:
            assert same.name == one.name

    def test_the_name_is_frozen(self, place: str | Path) -> None:
        """Another name for the same settings would lose every study that users have."""
        with Store(place).study({"b": [1, 2.5, None], "a": "é"}, "mrpc-did") as study:
            assert study.name == "mrpc-did-84afbf1d"

    def test_a_prefix_that_is_no_file_name(self, place: str | Path) -> None:
        with Store(place).study(SETTINGS, "bert/base on my task") as study:
            assert study.name.startswith("bert-base-on-my-task-")

    def test_settings_that_json_cannot_hold(self, place: str | Path) -> None:
        for settings in ({"x": math.nan}, {"x": {1, 2}}):
            with pytest.raises((TypeError, ValueError)), Store(place).study(settings, "x"):
                pass

    def test_facts(self, place: str | Path) -> None:
        with Store(place).study(SETTINGS, "x") as study:
            study.set_facts({"D": 22_713_216})
            study.set_facts({"D": 22_713_216, "majority": 0.684})
        assert Store(place).studies()[0].facts == {"D": 22_713_216, "majority": 0.684}

    def test_what_the_first_session_decided_stays(self, place: str | Path) -> None:
        decisions = [{"workers": 2, "given": [[None, 0.1, 3]]}, {"workers": 5}]
        for decided in decisions:
            with Store(place).study(SETTINGS, "a") as study:
                assert study.beginning(lambda decided=decided: decided) == decisions[0]

    def test_results_with_their_keys(self, place: str | Path) -> None:
        store, failed = Store(place), Trial(7, 0.01)
        with store.study(SETTINGS, "a") as study:
            study.finish(study.start(TRIAL, "k"), ok())
            study.finish(study.start(failed, "f"), TrialResult(failed, "failed"))
            assert store.keyed_results(study.name) == [("k", ok())]
        with pytest.raises(D90Error, match="unknown study in"):
            store.keyed_results("other")

    def test_an_unknown_study(self, place: str | Path) -> None:
        with Store(place).study(SETTINGS, "mrpc") as study:
            pass
        with pytest.raises(D90Error, match=f"did you mean '{study.name}'"):
            Store(place).results(study.name[:-1])

    def test_studies_of_other_programs_are_left_alone(self, place: str | Path) -> None:
        optuna.create_study(storage=url_of(place), study_name="theirs")
        assert Store(place).studies() == []
        assert Store(place).find("key") is None


class TestOnce:
    def test_a_finished_run_is_not_started_again(self, place: str | Path) -> None:
        with Store(place).study(SETTINGS, "x") as study:
            handle = study.start(TRIAL, "key")
            with pytest.raises(RuntimeError, match="is running"):
                study.start(TRIAL, "key")
            study.finish(handle, ok())
            with pytest.raises(RuntimeError, match="is finished"):
                study.start(TRIAL, "key")
            with pytest.raises(RuntimeError, match="is finished"):
                study.reuse(TRIAL, "key")
            with pytest.raises(RuntimeError, match="finished or never started"):
                study.finish(handle, ok())
        with Store(place).study(SETTINGS, "x") as study, pytest.raises(RuntimeError):
            study.start(TRIAL, "key")

    def test_a_run_that_failed_is_tried_again_by_the_next_driver(self, place: str | Path) -> None:
        failed = TrialResult(TRIAL, "failed", message="CUDA out of memory")
        with Store(place).study(SETTINGS, "x") as study:
            study.finish(study.start(TRIAL, "key"), failed)
            with pytest.raises(RuntimeError, match="is finished"):
                study.start(TRIAL, "key")
        with Store(place).study(SETTINGS, "x") as study:
            assert study.results() == []
            handle = study.start(TRIAL, "key")
            assert Store(place).results(study.name) == [failed]
            study.finish(handle, ok())
            assert Store(place).results(study.name) == [ok()]
        with Store(place).study(SETTINGS, "x") as study:
            assert study.results() == [ok()]

    def test_a_record_of_another_trial(self, place: str | Path) -> None:
        with Store(place).study(SETTINGS, "x") as study:
            handle = study.start(TRIAL, "key")
            with pytest.raises(ValueError, match="the result is of"):
                study.finish(handle, ok(Trial(7, 0.01)))

    def test_a_run_left_unfinished_is_failed_and_may_start_again(self, place: str | Path) -> None:
        with Store(place).study(SETTINGS, "x") as study:
            study.start(TRIAL, "key")
        with Store(place).study(SETTINGS, "x") as study:
            assert study.results() == []
            study.finish(study.start(TRIAL, "key"), ok())
        seen = optuna.load_study(study_name=study.name, storage=url_of(place))
        assert [trial.state.name for trial in seen.trials] == ["FAIL", "COMPLETE"]

    def test_a_record_saved_just_before_the_end_is_kept(self, place: str | Path) -> None:
        with Store(place).study(SETTINGS, "x") as study:
            handle = study.start(TRIAL, "key")
            # Killed between the two statements of `finish`.
            study._storage.set_trial_user_attr(handle.id, "record", ok().to_json())
        with Store(place).study(SETTINGS, "x") as study:
            assert study.results() == [ok()]


class TestReuse:
    def test_a_run_of_another_study_is_copied(self, place: str | Path) -> None:
        baseline = ok(Trial(None, 1e-4), 0.8)
        with Store(place).study({"scale": "tensor"}, "a") as first:
            first.start(TRIAL, "unfinished")
            first.finish(first.start(baseline.trial, "full"), baseline)
        with Store(place).study({"scale": "rms"}, "b") as second:
            assert second.reuse(TRIAL, "unfinished") is None
            assert second.reuse(TRIAL, "nobody's") is None
            assert second.reuse(baseline.trial, "full") == baseline
            assert second.results() == [baseline]
        assert Store(place).results(second.name) == [baseline]
        assert Store(place).find("full") == baseline
        seen = optuna.load_study(study_name=second.name, storage=url_of(place))
        assert seen.trials[0].user_attrs["reused_from"] == f"{first.name}#1"
        assert (seen.trials[0].state.name, seen.trials[0].value) == ("COMPLETE", 0.8)

    def test_a_collapsed_run_is_copied_and_a_failed_one_is_not(self, place: str | Path) -> None:
        with Store(place).study({"scale": "tensor"}, "a") as first:
            lost: list[tuple[Trial, Status]] = [(TRIAL, "collapsed"), (Trial(7, 0.01), "failed")]
            for trial, status in lost:
                first.finish(first.start(trial, status), TrialResult(trial, status, metric=0.5))
        with Store(place).study({"scale": "rms"}, "b") as second:
            assert second.reuse(TRIAL, "collapsed") == TrialResult(TRIAL, "collapsed", metric=0.5)
            assert second.reuse(Trial(7, 0.01), "failed") is None

    def test_a_result_that_lacks_what_is_needed_is_passed_over(self, place: str | Path) -> None:
        def has_brier(result: TrialResult) -> bool:
            return "brier" in result.skills

        measured = replace(ok(), skills={"brier": 0.3})
        with Store(place).study({"a": 1}, "a") as first, Store(place).study({"b": 1}, "b") as other:
            first.finish(first.start(TRIAL, "key"), ok())
            assert not other.has_result("key", accept=has_brier)
            assert other.reuse(TRIAL, "key", accept=has_brier) is None
            other.finish(other.start(TRIAL, "key"), measured)
        with Store(place).study({"c": 1}, "c") as third:
            assert third.reuse(TRIAL, "key", accept=has_brier) == measured
            assert third.results() == [measured]
        with Store(place).study({"d": 1}, "d") as fourth:
            assert fourth.reuse(TRIAL, "key") == ok()

    def test_a_record_of_an_older_d90_has_no_skills(self) -> None:
        values = replace(ok(), skills={"brier": 0.3}).to_json()
        del values["skills"]
        assert TrialResult.from_json(values) == ok()

    def test_results_that_other_drivers_add_later_are_found(self, place: str | Path) -> None:
        trials = [Trial(d, 0.01) for d in (1, 2)]
        with Store(place).study({"a": 1}, "a") as first, Store(place).study({"b": 1}, "b") as other:
            handles = [first.start(trial, f"key {trial.d}") for trial in trials]
            for handle in reversed(handles):  # Not in the order in which they were started.
                key = f"key {handle.trial.d}"
                assert not other.has_result(key)
                first.finish(handle, ok(handle.trial))
                assert other.reuse(handle.trial, key) == ok(handle.trial)

    def test_a_lookup_decodes_no_other_record(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for scale in ("tensor", "rms"):
            with Store(path).study({"scale": scale}, "x") as study:
                for d in range(10):
                    trial = Trial(d + 1, 0.01)
                    study.finish(study.start(trial, f"{scale} {d}"), ok(trial))
        decoded, from_json = [], TrialResult.from_json

        def counting(values: Mapping[str, Any]) -> TrialResult:
            decoded.append(values)
            return from_json(values)

        with Store(path).study({"scale": "vectors"}, "x") as study:
            monkeypatch.setattr(TrialResult, "from_json", counting)
            for d in range(10):
                trial = Trial(d + 1, 0.02)
                assert not study.has_result(f"new {d}")
                study.finish(study.start(trial, f"new {d}"), ok(trial))
            assert study.reuse(Trial(1, 0.01), "rms 3") == ok(Trial(1, 0.01))
        assert len(decoded) == 1


class TestOneDriver:
    def test_the_second_in_one_process(self, place: str | Path) -> None:
        message = f"already being run by process {os.getpid()} on "
        with Store(place).study(SETTINGS, "x"):
            with (
                pytest.raises(StudyLockedError, match=message),
                Store(place).study(SETTINGS, "x"),
            ):
                pass
            with Store(place).study({"another": 1}, "x"):
                pass
        with Store(place).study(SETTINGS, "x"):
            pass

    def test_a_reader_needs_no_lock(self, place: str | Path) -> None:
        with Store(place).study(SETTINGS, "x") as study:
            study.finish(study.start(TRIAL, "key"), ok())
            assert Store(place).results(study.name) == [ok()]

    def test_the_second_process_and_a_killed_one(self, place: str | Path) -> None:
        held = "print('open', flush=True); time.sleep(60)"
        driver = driver_process(place, held)
        try:
            assert driver.stdout is not None
            assert driver.stdout.readline() == "open\n"
            message = f"already being run by process {driver.pid} on .* rerun the command"
            with pytest.raises(D90Error, match=message) as error, study_of(place):
                pass
            assert "\n" not in str(error.value)
        finally:
            driver.kill()
            driver.wait()
        with study_of(place):
            pass

    def test_several_processes_make_a_store_at_once(self, tmp_path: Path) -> None:
        self.made_at_once(tmp_path / "folder" / "d90.db")

    def test_several_processes_make_the_tables_of_a_server(self, postgres: Server) -> None:
        postgres.execute("CREATE DATABASE d90_empty")
        self.made_at_once(postgres.url("d90_empty"))

    def made_at_once(self, place: str | Path) -> None:
        code = "study.finish(study.start(Trial(1, .1), 'k'), TrialResult(Trial(1, .1), 'ok', .5))"
        drivers = [driver_process(place, code, prefix=name) for name in ("a", "b", "c")]
        assert [driver.wait() for driver in drivers] == [0, 0, 0]
        assert len(Store(place).studies()) == 3


class TestUrls:
    @pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
    def test_psycopg_is_what_postgresql_means(self, scheme: str) -> None:
        with pytest.raises(D90Error, match=r"'postgresql\+psycopg://u@127.0.0.1:1/x' cannot be us"):
            Store(f"{scheme}://u@127.0.0.1:1/x")

    def test_another_driver_can_be_named(self) -> None:
        with pytest.raises(D90Error, match="needs a database driver: pip install it"):
            Store("postgresql+pg8000://u@127.0.0.1:1/x")

    def test_without_psycopg(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "psycopg", None)
        with pytest.raises(
            D90Error, match=r"database driver: pip install 'd90\[postgres\]'"
        ) as error:
            Store("postgresql://user:secret@127.0.0.1:1/x")
        assert "\n" not in str(error.value) and "secret" not in str(error.value)


class TestBadStores:
    @pytest.mark.parametrize(
        ("url", "message"),
        [
            ("sqlite://", "in memory and would keep nothing"),
            ("sqlite:///:memory:", "in memory and would keep nothing"),
            ("mysql+pymysql://host/name", "is neither an SQLite file nor a PostgreSQL database"),
            ("://", "not a database URL"),
            ("/proc/nowhere/d90.db", "cannot open store .*No such file"),
            (tempfile.gettempdir(), "is a folder"),
            (__file__, "is not an SQLite database"),
            (f"{__file__}/d90.db", "cannot open store"),
        ],
    )
    def test_one_line(self, url: str, message: str) -> None:
        with pytest.raises(D90Error, match=message) as error:
            Store(url)
        assert "\n" not in str(error.value)

    def test_another_database_and_no_password_in_the_message(self) -> None:
        with pytest.raises(StorageError, match="neither an SQLite file nor a PostgreSQL") as error:
            Store("oracle+oracledb://user:secret@host/name")
        assert "secret" not in str(error.value)

    def test_a_damaged_file(self, path: Path) -> None:
        path.write_bytes(b"SQLite format 3\0" + b"\xff" * 4096)
        with pytest.raises(D90Error, match=r"cannot be used: .*check that"):
            Store(path)

    def test_a_database_that_fails_in_the_middle(self, path: Path) -> None:
        def study_whose_table_goes() -> None:
            with Store(path).study(SETTINGS, "x") as study:
                handle = study.start(TRIAL, "key")
                with sqlite3.connect(path) as connection:
                    connection.execute("DROP TABLE trial_user_attributes")
                connection.close()
                study.finish(handle, ok())

        with pytest.raises(D90Error, match="cannot be used: no such table: trial_user_attributes"):
            study_whose_table_goes()

    def test_only_what_exists(self, tmp_path: Path) -> None:
        path = tmp_path / "made" / "d90.db"
        with pytest.raises(D90Error, match=r"no store at .*check the path"):
            Store(path, create=False)
        assert not path.parent.exists()
        Store(path)
        Store(path, create=False)

    def test_a_schema_of_another_version(self, path: Path) -> None:
        Store(path)
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE alembic_version SET version_num = 'v99.0.0.a'")
        connection.close()
        with pytest.raises(D90Error, match="no longer compatible"):
            Store(path)

    def test_paths_that_look_like_something_else(self, tmp_path: Path) -> None:
        path = tmp_path / "a b {x} 50% # é" / "d90.db"
        with Store(path).study(SETTINGS, "x"):
            pass
        assert path.is_file()

    def test_a_folder_that_cannot_be_written(self) -> None:
        """Nothing can be made there; a store that is there can be read."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "d90.db"
            with Store(path).study(SETTINGS, "x") as study:
                study.finish(study.start(TRIAL, "key"), ok())
            assert list(Path(folder).glob("*.lock")) == []
            path.chmod(0o444)
            Path(folder).chmod(0o555)
            # Root may write everywhere, so root becomes nobody once its libraries are loaded.
            code = (
                "import os; from d90.storage.store import Store; from d90.errors import D90Error\n"
                f"store = Store({str(path)!r})\n"
                "if os.geteuid() == 0: os.setuid(65534)\n"
                f"print(len(store.results({study.name!r})))\n"
                f"for what in (lambda: Store({folder + '/new.db'!r}),\n"
                f"    lambda: store.study({SETTINGS!r}, 'x').__enter__(),\n"
                "    lambda: store.study({'new': 1}, 'x').__enter__()):\n"
                "    try: what()\n"
                "    except D90Error as error: print(error)\n"
            )
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.stderr == ""
        read, new, lock, other = done.stdout.splitlines()
        assert read == "1"
        assert "new.db' cannot be used: unable to open database file; check that it can" in new
        assert "cannot lock study" in lock
        assert "choose a folder where you can write" in lock
        assert "cannot be used: attempt to write a readonly database; check" in other


DRIVER = """
import sys
import time
from d90.search.protocols import ListProtocol
from d90.search.trial import Trial, TrialResult
from d90.storage.store import Store
with Store(sys.argv[1]).study({"driver": 1}, sys.argv[2]) as study:
"""

# Short runs; the metric is a function of the trial, as in a seeded study.
LOOP = """
    protocol = ListProtocol(dims=range(10, 22), learning_rates=(0.01, 0.02))
    while trials := protocol.next_trials(study.results()):
        handle = study.start(trials[0], repr(trials[0]))
        metric = 0.5 + (hash(trials[0]) % 1000 if trials[0].d else 300) / 2000
        study.finish(handle, TrialResult(handle.trial, "ok", metric=metric))
        print(flush=True)
        time.sleep(0.03)
"""


def driver_process(place: str | Path, body: str, prefix: str = "x") -> subprocess.Popen[str]:
    """A driver of the study of `study_of`, in a process of its own."""
    code = DRIVER + (body if body.startswith("\n") else f"    {body}")
    return subprocess.Popen(
        [sys.executable, "-c", code, str(place), prefix], stdout=subprocess.PIPE, text=True
    )


def study_of(place: str | Path) -> AbstractContextManager[StudyStore]:
    return Store(place).study({"driver": 1}, "x")


def test_killed_five_times(tmp_path: Path) -> None:
    """`kill -9` at random moments: the same records in the end, no run finished twice."""
    killed, whole = tmp_path / "killed.db", tmp_path / "whole.db"
    undisturbed = driver_process(whole, LOOP)
    generator = random.Random(0)
    progress = []
    for _ in range(5):
        driver = driver_process(killed, LOOP)
        assert driver.stdout is not None
        # A few runs at most each time, so that 26 are not over before the fifth kill.
        runs = generator.randint(0, 4)
        for _ in range(runs):
            driver.stdout.readline()
        time.sleep(generator.random() * (0.1 if runs else 0.5))
        driver.kill()
        assert driver.wait() == -9
        progress += [len(Store(killed).results(s.name)) for s in Store(killed).studies()]
    assert driver_process(killed, LOOP).wait() == 0
    assert undisturbed.wait() == 0

    assert 0 < progress[0] < progress[-1] < 26
    (study,) = Store(killed).studies()
    assert Store(killed).results(study.name) == Store(whole).results(study.name)
    seen = optuna.load_study(study_name=study.name, storage=f"sqlite:///{killed}")
    finished = Counter(
        tuple(trial.user_attrs["trial"].values())
        for trial in seen.trials
        if "record" in trial.user_attrs
    )
    assert len(finished) == 26
    assert set(finished.values()) == {1}
    assert {trial.state.name for trial in seen.trials} <= {"COMPLETE", "FAIL"}
    assert len(seen.trials) <= 26 + 5
