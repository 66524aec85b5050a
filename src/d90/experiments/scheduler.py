"""The driver of a study: from what the protocol asks for to runs of an executor, and to the store.

Where workers would be idle, runs are made ahead: those that the protocol may ask for next. They are
noted in the store when it does ask for them, and cancelled when it cannot ask for them any more, so
the path of the search, and its answer, are those of one worker.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import TYPE_CHECKING

from d90.executors.base import Executor, OnProgress
from d90.search.protocols.speculative import ahead
from d90.search.trial import Record, Trial
from d90.storage.store import Handle, StudyStore

if TYPE_CHECKING:
    from d90.experiments.study import Listener, Study


class Driver:
    """Runs what the protocol of a study asks for until it asks for nothing.

    Args:
        study: what is measured.
        store: where its finished runs are noted.
        executor: where they run; entered.
        listener: told of everything that happens.
    """

    def __init__(
        self, study: Study, store: StudyStore, executor: Executor, listener: Listener
    ) -> None:
        self._study, self._store = study, store
        self._executor, self._listener = executor, listener
        self._running: dict[Trial, Future[Record]] = {}
        self._noted: dict[Trial, Handle] = {}
        self._early: dict[Trial, Record] = {}

    def run(self) -> None:
        """Run the study to its end.

        Raises:
            D90Error: what ends it early: the store or the executor cannot be used.
        """
        while self._start_wanted():
            self._start_ahead()
            wait(self._running.values(), return_when=FIRST_COMPLETED)
            for trial in [trial for trial, future in self._running.items() if future.done()]:
                self._end(trial)
        self._cancel(self._ahead())

    def _start_wanted(self) -> bool:
        """Start what is asked for, as far as the executor takes it; whether anything is."""
        while True:
            wanted = self._study.protocol.next_trials(self._store.records())
            trial = next((trial for trial in wanted if trial not in self._noted), None)
            if trial is None:
                return bool(wanted)
            if trial in self._early:
                self._note(trial)
                self._save(self._early.pop(trial))
            elif trial in self._running:
                self._note(trial)
            elif not self._has_room(wanted):
                return True
            elif not self._reuse(trial):
                self._note(trial)
                self._submit(trial)

    def _start_ahead(self) -> None:
        """Give idle workers what may be asked for next, and end what cannot be any more."""
        free = self._executor.slots - len(self._noted)
        is_ahead = self._ahead()
        if free <= 0 and not is_ahead:
            return
        possible = ahead(self._study.protocol, self._store.records(), max(free, len(is_ahead)))
        self._cancel([trial for trial in is_ahead if trial not in possible])
        for trial in possible:
            if len(self._running) >= self._executor.slots:
                return
            known = trial in self._early or trial in self._running
            if not known and not self._store.knows(self._study.key(trial)):
                self._submit(trial)

    def _has_room(self, wanted: Sequence[Trial]) -> bool:
        """Whether the executor takes another one; what runs ahead makes room."""
        if len(self._running) >= self._executor.slots:
            self._cancel([trial for trial in self._ahead() if trial not in wanted][-1:])
        return len(self._running) < self._executor.workers

    def _ahead(self) -> list[Trial]:
        return [trial for trial in self._running if trial not in self._noted]

    def _note(self, trial: Trial) -> None:
        self._noted[trial] = self._store.start(trial, self._study.key(trial))

    def _submit(self, trial: Trial) -> None:
        self._listener.started(trial)
        self._running[trial] = self._executor.submit(trial, self._tell(trial))

    def _tell(self, trial: Trial) -> OnProgress:
        return lambda progress: self._listener.progressed(trial, progress)

    def _end(self, trial: Trial) -> None:
        record = self._running.pop(trial).result()
        if trial in self._noted:
            self._save(record)
        else:
            self._early[trial] = record

    def _save(self, record: Record) -> None:
        self._store.finish(self._noted.pop(record.trial), record)
        self._listener.finished(self._study, record, self._store.records(), reused=False)

    def _reuse(self, trial: Trial) -> bool:
        """Whether another study of the store had this run."""
        record = self._store.reuse(trial, self._study.key(trial))
        if record is None:
            return False
        self._listener.finished(self._study, record, self._store.records(), reused=True)
        return True

    def _cancel(self, trials: Collection[Trial]) -> None:
        for trial in trials:
            del self._running[trial]
            self._executor.cancel(trial)
            self._listener.cancelled(trial)
