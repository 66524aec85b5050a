"""Trials in Optuna storage: one study a set of settings, resumed after `kill -9`, driven by one.

Only the storage of Optuna is used, not its samplers: `d90.protocols` says what to run. The trials
read well in optuna-dashboard: value, `d`, `learning_rate` and `seed`, and the whole record.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import DuplicatedStudyError, StorageInternalError
from optuna.storages import BaseStorage, RDBStorage, get_storage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError, SQLAlchemyError

from d90.errors import D90Error, unknown
from d90.locks import FileLock, LeaseLock, Lock
from d90.records import Record, Trial

SETTINGS, FACTS = "settings", "facts"
TRIAL, KEY, RECORD, REUSED = "trial", "key", "record", "reused_from"

# Wide enough for every trial: the storage wants one distribution a parameter for a whole study.
DISTRIBUTIONS: dict[str, BaseDistribution] = {
    "d": IntDistribution(1, 2**53, log=True),
    "learning_rate": FloatDistribution(1e-30, 1e30, log=True),
    "seed": IntDistribution(0, 2**64),
}

BUSY_SECONDS = 60
"""How long a statement waits for another process's write to an SQLite file."""

OPENING_ATTEMPTS = 50
"""Several drivers may meet in making a store: each collision leaves one table more."""


@dataclass(frozen=True)
class StudyInfo:
    """A study in a store.

    Attributes:
        name: prefix and first eight digits of the settings' SHA-256.
        settings: what identifies it.
        facts: what was measured about it once (`StudyStore.set_facts`).
    """

    name: str
    settings: Mapping[str, Any]
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Handle:
    """A trial that was started: give it back to `StudyStore.finish`."""

    trial: Trial
    id: int


class Store:
    """Studies in one database.

    Args:
        url: path of an SQLite file (made with its folders when absent), or any SQLAlchemy URL,
            such as `postgresql+psycopg://user@host/d90`.
        create: False only opens a file that exists.

    Raises:
        D90Error: when the database cannot be opened, or is none.
    """

    def __init__(self, url: str | Path, *, create: bool = True) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        database = _database(url)
        self.label = database.render_as_string() if "://" in str(url) else str(url)
        self._file = _sqlite_file(database, self.label, create=create)
        with _one_line_errors(self.label):
            self._storage = _open(database)

    def studies(self) -> list[StudyInfo]:
        """The studies, in the order in which they were made."""
        with _one_line_errors(self.label):
            return [
                StudyInfo(s.study_name, s.user_attrs[SETTINGS], s.user_attrs.get(FACTS, {}))
                for s in self._storage.get_all_studies()
                if SETTINGS in s.user_attrs
            ]

    def records(self, name: str) -> list[Record]:
        """The finished runs of a study, in the order in which they were started; no lock is taken.

        Raises:
            D90Error: for a name that is not in the store.
        """
        with _one_line_errors(self.label):
            ids = {s.study_name: s._study_id for s in self._storage.get_all_studies()}
            if name not in ids:
                raise unknown(f"study in {self.label}", name, ids)
            return [record for _, record in _finished(self._storage, ids[name])]

    def find(self, key: str) -> Record | None:
        """A finished run of that key in any study; one that `failed` may succeed and is none."""
        found = self._find(key)
        return found[1] if found else None

    @contextmanager
    def study(self, settings: Mapping[str, Any], name_prefix: str) -> Iterator[StudyStore]:
        """Open the study of these settings as its only driver; it is made when there is none.

        It is `study_name` that tells studies apart: a changed setting is another study.

        Args:
            settings: JSON values. 1 and 1.0 differ.
            name_prefix: how the name begins; a function of the settings.

        Raises:
            D90Error: when another driver runs the study; in the `with` block, when the database
                fails or another driver takes the study over.
            TypeError, ValueError: for settings that JSON cannot hold.
        """
        canonical = _canonical(settings)
        name = study_name(settings, name_prefix)
        with _one_line_errors(self.label):
            study_id = _study_id(self._storage, name)
            known = self._storage.get_study_user_attrs(study_id).get(SETTINGS)
            if known is None:
                self._storage.set_study_user_attr(study_id, SETTINGS, json.loads(canonical))
            elif known != json.loads(canonical):
                raise D90Error(
                    f"study '{name}' has other settings under the same name: use another store "
                    f"than {self.label}."
                )
            with self._lock(study_id, name) as lock:
                yield StudyStore(self, study_id, name, lock)

    def _lock(self, study_id: int, name: str) -> Lock:
        if self._file is None:
            return LeaseLock(self._storage, study_id, name)
        return FileLock(self._file.with_name(f"{self._file.name}.{name}.lock"), name)

    def _find(self, key: str) -> tuple[str, Record] | None:
        """A finished run of that key and where it is: `study#number`."""
        with _one_line_errors(self.label):
            for study in self._storage.get_all_studies():
                for trial, record in _finished(self._storage, study._study_id):
                    if trial.user_attrs[KEY] == key and record.status != "failed":
                        return f"{study.study_name}#{trial.number}", record
        return None


class StudyStore:
    """One study, opened by its only driver: made by `Store.study`.

    Runs that a dead driver left unfinished are marked as failed when the study is opened; they
    have no record, so the protocol asks for them again.
    """

    def __init__(self, store: Store, study_id: int, name: str, lock: Lock) -> None:
        self.name = name
        self._store = store
        self._storage = store._storage
        self._study_id = study_id
        self._lock = lock
        self._running: dict[int, Trial] = {}
        _end_stale(self._storage, study_id)
        self._records = {t._trial_id: r for t, r in _finished(self._storage, study_id)}

    def records(self) -> list[Record]:
        """The finished runs, in the order in which they were started."""
        return [self._records[id] for id in sorted(self._records)]

    def start(self, trial: Trial, key: str) -> Handle:
        """Note that the trial runs now.

        Args:
            trial: neither finished nor running.
            key: determines the result of the run entirely, in any study.

        Raises:
            D90Error: when another driver has taken the study over.
            RuntimeError: when the trial is finished or running: no run is repeated.
        """
        self._check_new(trial)
        template = create_trial(state=TrialState.RUNNING, **_described(trial, key))
        self._lock.check()
        id = self._storage.create_new_trial(self._study_id, template)
        self._running[id] = trial
        return Handle(trial, id)

    def finish(self, handle: Handle, record: Record) -> None:
        """Save what came of a run that was started.

        Raises:
            D90Error: when another driver has taken the study over.
            RuntimeError: when the run was not started here, or is finished already.
            ValueError: when the record is of another trial.
        """
        if self._running.get(handle.id) != handle.trial:
            raise RuntimeError(f"{handle.trial} is not running: it is finished or never started")
        if record.trial != handle.trial:
            raise ValueError(f"the record is of {record.trial}, the run of {handle.trial}")
        self._lock.check()
        self._storage.set_trial_user_attr(handle.id, RECORD, encode(record))
        _end(self._storage, handle.id, record)
        del self._running[handle.id]
        self._records[handle.id] = record

    def reuse(self, trial: Trial, key: str) -> Record | None:
        """Copy the finished run of that key from whatever study has it, if any has.

        The copy says where it is from: the user attribute `reused_from`.

        Raises:
            D90Error: when another driver has taken the study over.
            RuntimeError: when the trial is finished or running: no run is repeated.
        """
        self._check_new(trial)
        found = self._store._find(key)
        if found is None:
            return None
        source, record = found[0], replace(found[1], trial=trial)
        state, values = _outcome(record)
        described = _described(trial, key)
        described["user_attrs"] |= {RECORD: encode(record), REUSED: source}
        template = create_trial(state=state, values=values, **described)
        self._lock.check()
        self._records[self._storage.create_new_trial(self._study_id, template)] = record
        return record

    def set_facts(self, facts: Mapping[str, Any]) -> None:
        """Save what is not a setting but belongs in a report, such as D or the majority rate.

        Args:
            facts: JSON values; they replace those saved before.
        """
        self._lock.check()
        self._storage.set_study_user_attr(self._study_id, FACTS, dict(facts))

    def _check_new(self, trial: Trial) -> None:
        if trial in self._running.values():
            raise RuntimeError(f"{trial} is running")
        if any(record.trial == trial for record in self._records.values()):
            raise RuntimeError(f"{trial} is finished: no run is repeated")


def study_name(settings: Mapping[str, Any], prefix: str) -> str:
    """The prefix and the first digits of the SHA-256 of the settings as canonical JSON.

    What does not belong in a file name becomes a hyphen.

    Raises:
        TypeError, ValueError: for settings that JSON cannot hold.

    >>> study_name({"model": "bert-base"}, "my bert/mrpc")
    'my-bert-mrpc-92fb284a'
    """
    digest = hashlib.sha256(_canonical(settings).encode()).hexdigest()
    return re.sub(r"[^\w.-]+", "-", prefix) + f"-{digest[:8]}"


def _canonical(settings: Mapping[str, Any]) -> str:
    return json.dumps(settings, sort_keys=True, separators=(",", ":"), allow_nan=False)


def encode(record: Record) -> dict[str, Any]:
    """The record as strict JSON values: what is not finite is `nan`, `inf` or `-inf`.

    >>> encode(Record(Trial(10, 0.01), "diverged", metric=float("nan")))["metric"]
    'nan'
    """
    values = asdict(record)
    for name in ("metric", "train_metric", "seconds"):
        values[name] = _as_json(values[name])
    values["metrics"] = {name: _as_json(value) for name, value in record.metrics.items()}
    values["history"] = [
        {name: _as_json(value) for name, value in epoch.items()} for epoch in record.history
    ]
    return values


def decode(values: Mapping[str, Any]) -> Record:
    """The record of such values.

    >>> record = Record(Trial(10, 0.01), "ok", metric=0.5, history=({"epoch": 1, "loss": 0.7},))
    >>> decode(encode(record)) == record
    True
    """
    return Record(
        trial=Trial(**values["trial"]),
        status=values["status"],
        metric=_from_json(values["metric"]),
        train_metric=_from_json(values["train_metric"]),
        seconds=_from_json(values["seconds"]) or 0.0,
        metrics={name: _from_json(value) for name, value in values["metrics"].items()},
        history=tuple(
            {name: _from_json(value) for name, value in epoch.items()}
            for epoch in values["history"]
        ),
        message=values["message"],
    )


def _as_json(value: Any) -> Any:
    if value is None or isinstance(value, int):
        return value
    value = float(value)
    return value if math.isfinite(value) else str(value)


def _from_json(value: Any) -> Any:
    return float(value) if isinstance(value, str) else value


def _described(trial: Trial, key: str) -> dict[str, Any]:
    """Arguments of `create_trial`: full fine-tuning has no `d`."""
    params = {name: value for name, value in asdict(trial).items() if value is not None}
    return {
        "params": params,
        "distributions": {name: DISTRIBUTIONS[name] for name in params},
        "user_attrs": {TRIAL: asdict(trial), KEY: key},
    }


def _outcome(record: Record) -> tuple[TrialState, list[float] | None]:
    """How the storage sees the run: only a data point is complete and has a value."""
    if record.usable and record.metric is not None and math.isfinite(record.metric):
        return TrialState.COMPLETE, [record.metric]
    return TrialState.FAIL, None


def _end(storage: BaseStorage, trial_id: int, record: Record) -> None:
    state, values = _outcome(record)
    storage.set_trial_state_values(trial_id, state, values)


def _end_stale(storage: BaseStorage, study_id: int) -> None:
    """End the runs of a dead driver; one whose record was saved just before is not lost."""
    for trial in storage.get_all_trials(study_id, deepcopy=False, states=(TrialState.RUNNING,)):
        if RECORD in trial.user_attrs:
            _end(storage, trial._trial_id, decode(trial.user_attrs[RECORD]))
        else:
            storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)


def _finished(storage: BaseStorage, study_id: int) -> list[tuple[FrozenTrial, Record]]:
    """Trials with a record, in the order in which they were started."""
    trials = storage.get_all_trials(study_id, deepcopy=False)
    with_record = [t for t in trials if t.state.is_finished() and RECORD in t.user_attrs]
    return [(t, decode(t.user_attrs[RECORD])) for t in sorted(with_record, key=lambda t: t.number)]


def _study_id(storage: BaseStorage, name: str) -> int:
    try:
        return storage.create_new_study([StudyDirection.MAXIMIZE], name)
    except DuplicatedStudyError:
        return storage.get_study_id_from_name(name)


def _database(url: str | Path) -> URL:
    """The URL; a plain path is an SQLite file."""
    if "://" not in str(url):
        return URL.create("sqlite", database=os.path.abspath(Path(url).expanduser()))
    try:
        return make_url(str(url))
    except (SQLAlchemyError, ValueError) as error:
        raise D90Error(
            f"store '{url}' is not a database URL: expected a path or a URL such as "
            "postgresql+psycopg://user@host/name."
        ) from error


def _sqlite_file(database: URL, label: str, *, create: bool) -> Path | None:
    """The file of an SQLite database, its folder made; None for other databases."""
    if database.get_backend_name() != "sqlite":
        return None
    if database.database in (None, "", ":memory:"):
        raise D90Error(f"store '{label}' is in memory and would keep nothing: give a path.")
    path = Path(database.database).absolute()
    if path.is_dir():
        raise D90Error(f"store '{label}' is a folder: give the path of a file in it.")
    if not path.exists() and not create:
        raise D90Error(f"no store at '{label}': check the path; `d90 measure` makes it.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("rb") if path.exists() else open(os.devnull, "rb") as file:
            start = file.read(16)
    except OSError as error:
        raise D90Error(
            f"cannot open store '{label}': {error.strerror}: {error.filename}."
        ) from error
    if start not in (b"", b"SQLite format 3\0"):
        raise D90Error(f"store '{label}' is not an SQLite database: give another path.")
    return path


def _open(database: URL) -> BaseStorage:
    """The storage, its tables made where they are missing."""
    for _ in range(OPENING_ATTEMPTS):
        try:
            return _storage(database)
        except (IntegrityError, OperationalError, ProgrammingError) as error:
            # Another process is making the same tables.
            if not isinstance(error, IntegrityError) and "already exists" not in str(error):
                raise
            time.sleep(0.1)
    return _storage(database)


def _storage(database: URL) -> BaseStorage:
    url = database.render_as_string(hide_password=False)
    sqlite = database.get_backend_name() == "sqlite"
    try:
        storage = RDBStorage(
            # The storage fills a template with it, where braces have a meaning.
            url.replace("{", "{{").replace("}", "}}"),
            engine_kwargs={"connect_args": {"timeout": BUSY_SECONDS}} if sqlite else {},
        )
    except ImportError as error:
        label = database.render_as_string()
        raise D90Error(f"store '{label}' needs a database driver: pip install it.") from error
    except RuntimeError as error:
        # Its schema is of another version of Optuna; the message says how to upgrade.
        raise D90Error(f"store '{database.render_as_string()}': {error}") from error
    # What `optuna.create_study` does too: finished trials are read from the database only once.
    return get_storage(storage)


@contextmanager
def _one_line_errors(label: str) -> Iterator[None]:
    """Turn what databases raise into one line that a user can act on."""
    try:
        yield
    except (SQLAlchemyError, StorageInternalError) as error:
        cause = error.__cause__ if isinstance(error, StorageInternalError) else error
        what = str(getattr(cause, "orig", None) or cause).strip().splitlines()[0].rstrip(".")
        raise D90Error(
            f"store '{label}' cannot be used: {what}; check that it can be reached and written."
        ) from error
