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
from d90.search.protocols.speculative import speculative_trials
from d90.search.trial import Trial, TrialResult
from d90.storage.store import Handle, StudyStore

if TYPE_CHECKING:
    from d90.experiments.study import Callback, Study


class Scheduler:
    """Runs what the protocol of a study asks for until it asks for nothing.

    Args:
        study: what is measured.
        store: where its finished runs are noted.
        executor: where they run; entered.
        callback: told of everything that happens.
    """

    def __init__(
        self, study: Study, store: StudyStore, executor: Executor, callback: Callback
    ) -> None:
        self._study, self._store = study, store
        self._executor, self._callback = executor, callback
        self._running: dict[Trial, Future[TrialResult]] = {}
        self._noted: dict[Trial, Handle] = {}
        self._early: dict[Trial, TrialResult] = {}

    def run(self) -> None:
        """Run the study to its end.

        Raises:
            D90Error: what ends it early: the store or the executor cannot be used.
        """
        while self._start_requested():
            self._start_speculative()
            wait(self._running.values(), return_when=FIRST_COMPLETED)
            for trial in [trial for trial, future in self._running.items() if future.done()]:
                self._end(trial)
        self._cancel(self._speculative())

    def _start_requested(self) -> bool:
        """Start what is asked for, as far as the executor takes it; whether anything is."""
        while True:
            wanted = self._study.protocol.next_trials(self._store.results())
            trial = next((trial for trial in wanted if trial not in self._noted), None)
            if trial is None:
                return bool(wanted)
            if trial in self._early:
                self._record_start(trial)
                self._save(self._early.pop(trial))
            elif trial in self._running:
                self._record_start(trial)
            elif not self._has_room(wanted):
                return True
            elif not self._reuse(trial):
                self._record_start(trial)
                self._submit(trial)

    def _start_speculative(self) -> None:
        """Give idle workers what may be asked for next, and end what cannot be any more."""
        free = self._executor.slots - len(self._noted)
        is_ahead = self._speculative()
        if free <= 0 and not is_ahead:
            return
        possible = speculative_trials(
            self._study.protocol, self._store.results(), max(free, len(is_ahead))
        )
        self._cancel([trial for trial in is_ahead if trial not in possible])
        for trial in possible:
            if len(self._running) >= self._executor.slots:
                return
            known = trial in self._early or trial in self._running
            if not known and not self._store.has_result(self._study.key(trial)):
                self._submit(trial)

    def _has_room(self, wanted: Sequence[Trial]) -> bool:
        """Whether the executor takes another one; what runs ahead makes room."""
        if len(self._running) >= self._executor.slots:
            self._cancel([trial for trial in self._speculative() if trial not in wanted][-1:])
        return len(self._running) < self._executor.workers

    def _speculative(self) -> list[Trial]:
        return [trial for trial in self._running if trial not in self._noted]

    def _record_start(self, trial: Trial) -> None:
        self._noted[trial] = self._store.start(trial, self._study.key(trial))

    def _submit(self, trial: Trial) -> None:
        self._callback.on_trial_begin(trial)
        self._running[trial] = self._executor.submit(trial, self._report_progress(trial))

    def _report_progress(self, trial: Trial) -> OnProgress:
        return lambda progress: self._callback.on_progress(trial, progress)

    def _end(self, trial: Trial) -> None:
        result = self._running.pop(trial).result()
        if trial in self._noted:
            self._save(result)
        else:
            self._early[trial] = result

    def _save(self, result: TrialResult) -> None:
        self._store.finish(self._noted.pop(result.trial), result)
        self._callback.on_trial_end(self._study, result, self._store.results(), reused=False)

    def _reuse(self, trial: Trial) -> bool:
        """Whether another study of the store had this run."""
        result = self._store.reuse(trial, self._study.key(trial))
        if result is None:
            return False
        self._callback.on_trial_end(self._study, result, self._store.results(), reused=True)
        return True

    def _cancel(self, trials: Collection[Trial]) -> None:
        for trial in trials:
            del self._running[trial]
            self._executor.cancel(trial)
            self._callback.on_trial_cancelled(trial)
