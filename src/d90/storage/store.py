"""Trials in Optuna storage: one study per set of settings, resumed after `kill -9`, one driver.

Only the storage of Optuna is used, not its samplers: `d90.search.protocols` says what to run. The
trials read well in optuna-dashboard: value, `d`, `learning_rate` and `seed`, and the whole record.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import DuplicatedStudyError
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from d90.errors import StorageError, StudyLockedError, unknown_name
from d90.search.trial import Trial, TrialResult
from d90.storage.database import (
    AWAY_SECONDS,
    open_storage,
    parse_url,
    retry_while_unreachable,
    single_line_errors,
    sqlite_file,
)
from d90.storage.index import KEY, RECORD, KeyIndex
from d90.storage.locks.advisory import AdvisoryLock
from d90.storage.locks.base import Lock
from d90.storage.locks.file import FileLock
from d90.utils.digest import canonical_json, text_digest
from d90.utils.redact import is_url, redact_url

T = TypeVar("T")

SETTINGS, FACTS, BEGINNING = "settings", "facts", "beginning"
TRIAL, REUSED = "trial", "reused_from"

# Wide enough for every trial: the storage requires one distribution per parameter of a study.
DISTRIBUTIONS: dict[str, BaseDistribution] = {
    "d": IntDistribution(1, 2**53, log=True),
    "learning_rate": FloatDistribution(1e-30, 1e30, log=True),
    "seed": IntDistribution(0, 2**64),
}


Accept = Callable[[TrialResult], bool]


def _any(_: TrialResult) -> bool:
    return True


@dataclass(frozen=True)
class StudyInfo:
    """A study in a store.

    Attributes:
        name: prefix and first eight digits of the settings' SHA-256.
        settings: what identifies it.
        facts: values for its report (`StudyStore.set_facts`).
    """

    name: str
    settings: Mapping[str, Any]
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Handle:
    """A trial that was started; an argument of `StudyStore.finish`."""

    trial: Trial
    id: int


class Store:
    """Studies in one database.

    Args:
        url: path of an SQLite file (created with its folders if missing), or the URL of a
            PostgreSQL database, such as `postgresql://user@host/d90`.
        create: False only opens a file that exists.
        retry_seconds: how long to wait, within a study, for a server that cannot be reached.

    Raises:
        StorageError: the database cannot be opened, or is of another kind.
    """

    def __init__(
        self, url: str | Path, *, create: bool = True, retry_seconds: float = AWAY_SECONDS
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._database = parse_url(url)
        full = self._database.render_as_string(hide_password=False)
        self.label = redact_url(full) if is_url(str(url)) else str(url)
        self._file = sqlite_file(self._database, self.label, create=create)
        self._retry_seconds = retry_seconds
        with single_line_errors(self.label, self._file):
            self._storage = open_storage(self._database)
        self._index = KeyIndex(self._storage)

    def studies(self) -> list[StudyInfo]:
        """The studies, in the order of their creation."""
        with single_line_errors(self.label, self._file):
            return [
                StudyInfo(s.study_name, s.user_attrs[SETTINGS], s.user_attrs.get(FACTS, {}))
                for s in self.retry_while_unreachable(self._storage.get_all_studies)
                if SETTINGS in s.user_attrs
            ]

    def results(self, name: str) -> list[TrialResult]:
        """The finished trials of a study, in the order in which they started; no lock is taken.

        Of several attempts at a trial that `failed`, the last.

        Raises:
            D90Error: for a name that is not in the store.
        """
        with single_line_errors(self.label, self._file):
            found = self.retry_while_unreachable(lambda: _finished(self._storage, self._id(name)))
            last = {result.trial: number for number, (_, result) in enumerate(found)}
            return [r for number, (_, r) in enumerate(found) if last[r.trial] == number]

    def keyed_results(self, name: str) -> list[tuple[str, TrialResult]]:
        """The finished trials of a study with their keys, except those that `failed`.

        Raises:
            D90Error: for a name that is not in the store.
        """
        with single_line_errors(self.label, self._file):
            found = self.retry_while_unreachable(lambda: _finished(self._storage, self._id(name)))
        return [(trial.user_attrs[KEY], r) for trial, r in found if r.status != "failed"]

    def find(self, key: str, *, accept: Accept = _any) -> TrialResult | None:
        """A finished trial with this key in any study, except one that `failed` or is refused."""
        found = self._find(key, accept)
        return found[1] if found else None

    @contextmanager
    def study(self, settings: Mapping[str, Any], name_prefix: str) -> Iterator[StudyStore]:
        """Open the study of these settings as its only driver; it is created if missing.

        `study_name` identifies a study: a changed setting is another study.

        Args:
            settings: JSON values. 1 and 1.0 differ.
            name_prefix: how the name begins; a function of the settings.

        Raises:
            StudyLockedError: another driver runs the study; in the `with` block, it takes it over.
            StorageError: in the `with` block, the database fails.
            TypeError, ValueError: for settings that JSON cannot hold.
        """
        name = study_name(settings, name_prefix)
        with single_line_errors(self.label, self._file), ExitStack() as stack:
            study_id = self.retry_while_unreachable(lambda: self._made(settings, name))
            lock = self._lock(study_id, name)
            self.retry_while_unreachable(lock.__enter__)
            stack.push(lock.__exit__)
            yield self.retry_while_unreachable(lambda: StudyStore(self, study_id, name, lock))

    def retry_while_unreachable(self, action: Callable[[], T]) -> T:
        """What the action returns, once a server that went away is back; see
        `d90.storage.database`.
        """
        if self._file is not None:  # A file does not come back.
            return action()
        return retry_while_unreachable(action, self.label, seconds=self._retry_seconds)

    def _id(self, name: str) -> int:
        ids = {s.study_name: s._study_id for s in self._storage.get_all_studies()}
        if name not in ids:
            raise unknown_name(f"study in {self.label}", name, ids)
        return ids[name]

    def _made(self, settings: Mapping[str, Any], name: str) -> int:
        """The id of the study of these settings, which is created if missing."""
        study_id = _study_id(self._storage, name)
        plain = json.loads(canonical_json(settings))
        known = self._storage.get_study_user_attrs(study_id).get(SETTINGS)
        if known is None:
            self._storage.set_study_user_attr(study_id, SETTINGS, plain)
        elif known != plain:
            raise StorageError(
                f"study '{name}' has other settings under the same name: use another store "
                f"than {self.label}."
            )
        return study_id

    def _lock(self, study_id: int, name: str) -> Lock:
        if self._file is not None:
            path = self._file.with_name(f"{self._file.name}.{name}.lock")
            return FileLock(path, f"study '{name}'")
        return AdvisoryLock(self._database, self._storage, study_id, name)

    def _find(self, key: str, accept: Accept) -> tuple[str, TrialResult] | None:
        """A finished trial with this key that is accepted, and its location: `study#number`."""

        def first() -> tuple[str, TrialResult] | None:
            for study, trial in self._index.find(key):
                result = TrialResult.from_json(trial.user_attrs[RECORD])
                if accept(result):
                    return f"{study}#{trial.number}", result
            return None

        with single_line_errors(self.label, self._file):
            return self.retry_while_unreachable(first)


class StudyStore:
    """One study, opened by its only driver: made by `Store.study`.

    Trials that a dead driver left unfinished are marked as failed when the study is opened; they
    have no record, so the protocol requests them again. It also requests trials that `failed` in
    earlier sessions: what they lacked, such as memory, may be available now.

    Every write is idempotent, since a connection can break after the server has written and before
    it confirms.
    """

    def __init__(self, store: Store, study_id: int, name: str, lock: Lock) -> None:
        self.name = name
        self._store = store
        self._storage = store._storage
        self._study_id = study_id
        self._lock = lock
        self._running: dict[int, Trial] = {}
        _end_stale(self._storage, study_id, self._running)
        finished = _finished(self._storage, study_id)
        self._results = {t._trial_id: r for t, r in finished if r.status != "failed"}
        self._finished = {result.trial for result in self._results.values()}

    def results(self) -> list[TrialResult]:
        """The finished trials, in the order in which they started."""
        return [self._results[id] for id in sorted(self._results)]

    def start(self, trial: Trial, key: str) -> Handle:
        """Record that the trial is running.

        Args:
            trial: neither finished nor running.
            key: determines the result entirely, in any study.

        Raises:
            StudyLockedError: another driver has taken the study over.
            StorageError: the database cannot be reached.
            RuntimeError: the trial is finished or running: no trial is repeated.
        """
        self._check_new(trial)
        return self._start(trial, _described(trial, key))

    def finish(self, handle: Handle, result: TrialResult) -> None:
        """Save the result of a trial that was started.

        Raises:
            StudyLockedError: another driver has taken the study over.
            StorageError: the database cannot be reached.
            RuntimeError: the trial was not started by this driver, or is already finished.
            ValueError: the result is of another trial.
        """
        if self._running.get(handle.id) != handle.trial:
            raise RuntimeError(f"{handle.trial} is not running: it is finished or never started")
        if result.trial != handle.trial:
            raise ValueError(f"the result is of {result.trial}, the run of {handle.trial}")
        self._write(lambda: self._save(handle.id, result))
        del self._running[handle.id]
        self._results[handle.id] = result
        self._finished.add(handle.trial)

    def reuse(self, trial: Trial, key: str, *, accept: Accept = _any) -> TrialResult | None:
        """Copy the finished trial with this key from any study, if there is one.

        The user attribute `reused_from` of the copy names its origin.

        Args:
            trial: neither finished nor running.
            key: as in `start`.
            accept: False for a result that lacks what this study needs, such as a score that an
                older d90 did not measure.

        Raises:
            StudyLockedError: another driver has taken the study over.
            StorageError: the database cannot be reached.
            RuntimeError: the trial is finished or running: no trial is repeated.
        """
        self._check_new(trial)
        found = self._store._find(key, accept)
        if found is None:
            return None
        source, result = found[0], replace(found[1], trial=trial)
        described = _described(trial, key)
        described["user_attrs"] |= {REUSED: source}
        self.finish(self._start(trial, described), result)
        return result

    def has_result(self, key: str, *, accept: Accept = _any) -> bool:
        """Whether `reuse` would find a trial with this key."""
        return self._store.find(key, accept=accept) is not None

    def set_facts(self, facts: Mapping[str, Any]) -> None:
        """Save values for reports that are not settings, such as D or the majority rate.

        Args:
            facts: JSON values; they replace those saved before.
        """
        self._write(lambda: self._storage.set_study_user_attr(self._study_id, FACTS, dict(facts)))

    def beginning(self, decide: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
        """What the study's first session decided, in every later one too.

        Args:
            decide: called in the first session only; returns JSON values, which are saved.
        """
        attributes = self._store.retry_while_unreachable(
            lambda: self._storage.get_study_user_attrs(self._study_id)
        )
        if BEGINNING not in attributes:
            decided = json.loads(canonical_json(decide()))
            self._write(
                lambda: self._storage.set_study_user_attr(self._study_id, BEGINNING, decided)
            )
            return decided
        return attributes[BEGINNING]

    def _start(self, trial: Trial, described: Mapping[str, Any]) -> Handle:
        template = create_trial(state=TrialState.RUNNING, **described)
        id = self._write(lambda: self._storage.create_new_trial(self._study_id, template))
        self._running[id] = trial
        # An attempt that was written though its connection broke has left a second one.
        self._write(lambda: _end_stale(self._storage, self._study_id, self._running))
        return Handle(trial, id)

    def _save(self, id: int, result: TrialResult) -> None:
        try:
            self._storage.set_trial_user_attr(id, RECORD, result.to_json())
            _end(self._storage, id, result)
        except RuntimeError as error:  # It has ended already: by an earlier attempt of ours?
            saved = self._storage.get_trial(id).user_attrs.get(RECORD)
            if saved != json.loads(json.dumps(result.to_json())):
                raise StudyLockedError(
                    f"a trial of study '{self.name}' was ended by another program: rerun the "
                    "command when that has ended."
                ) from error

    def _write(self, write: Callable[[], T]) -> T:
        """Write as the study's driver, once the database answers."""

        def attempt() -> T:
            self._lock.check()
            return write()

        return self._store.retry_while_unreachable(attempt)

    def _check_new(self, trial: Trial) -> None:
        if trial in self._running.values():
            raise RuntimeError(f"{trial} is running")
        if trial in self._finished:
            raise RuntimeError(f"{trial} is finished: no run is repeated")


def study_name(settings: Mapping[str, Any], prefix: str) -> str:
    """The prefix and the first digits of the SHA-256 of the settings as canonical JSON.

    What does not belong in a file name becomes a hyphen.

    Raises:
        TypeError, ValueError: for settings that JSON cannot hold.

    >>> study_name({"model": "bert-base"}, "my bert/mrpc")
    'my-bert-mrpc-92fb284a'
    """
    digest = text_digest(canonical_json(settings))
    return re.sub(r"[^\w.-]+", "-", prefix) + f"-{digest[:8]}"


def _described(trial: Trial, key: str) -> dict[str, Any]:
    """Arguments of `create_trial`: full fine-tuning has no `d`."""
    params = {name: value for name, value in asdict(trial).items() if value is not None}
    return {
        "params": params,
        "distributions": {name: DISTRIBUTIONS[name] for name in params},
        "user_attrs": {TRIAL: asdict(trial), KEY: key},
    }


def _outcome(result: TrialResult) -> tuple[TrialState, list[float] | None]:
    """How the storage sees the run: only a data point is complete and has a value."""
    if result.is_valid and result.metric is not None and math.isfinite(result.metric):
        return TrialState.COMPLETE, [result.metric]
    return TrialState.FAIL, None


def _end(storage: BaseStorage, trial_id: int, result: TrialResult) -> None:
    state, values = _outcome(result)
    storage.set_trial_state_values(trial_id, state, values)


def _end_stale(storage: BaseStorage, study_id: int, running: Mapping[int, Trial]) -> None:
    """End the runs that nobody runs; one whose record was saved just before is not lost."""
    for trial in storage.get_all_trials(study_id, deepcopy=False, states=(TrialState.RUNNING,)):
        if trial._trial_id in running:
            continue
        if RECORD in trial.user_attrs:
            _end(storage, trial._trial_id, TrialResult.from_json(trial.user_attrs[RECORD]))
        else:
            storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)


def _finished(storage: BaseStorage, study_id: int) -> list[tuple[FrozenTrial, TrialResult]]:
    """Trials with a record, in the order in which they were started."""
    trials = storage.get_all_trials(study_id, deepcopy=False)
    with_record = [t for t in trials if t.state.is_finished() and RECORD in t.user_attrs]
    return [
        (t, TrialResult.from_json(t.user_attrs[RECORD]))
        for t in sorted(with_record, key=lambda t: t.number)
    ]


def _study_id(storage: BaseStorage, name: str) -> int:
    try:
        return storage.create_new_study([StudyDirection.MAXIMIZE], name)
    except DuplicatedStudyError:
        return storage.get_study_id_from_name(name)
