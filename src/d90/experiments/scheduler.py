"""Runs a study: from the trials that its protocol requests, through an executor, into the store.

Idle workers run speculative trials: those that the protocol may request next. Their results are
stored when the protocol does request them, and they are cancelled once it no longer can, so the
path of the search, and its answer, do not depend on the number of workers.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait

from d90.executors.base import Executor, OnProgress
from d90.experiments.callbacks import Callback
from d90.experiments.study import Study
from d90.search.protocols.speculative import speculative_trials
from d90.search.trial import Trial, TrialResult
from d90.storage.store import Handle, StudyStore


class Scheduler:
    """Runs the trials that a study's protocol requests until it requests none.

    Args:
        study: what is run.
        store: where finished trials are recorded.
        executor: where they run; entered.
        callback: notified of progress.
    """

    def __init__(
        self, study: Study, store: StudyStore, executor: Executor, callback: Callback
    ) -> None:
        self._study, self._store = study, store
        self._executor, self._callback = executor, callback
        self._running: dict[Trial, Future[TrialResult]] = {}
        self._recorded: dict[Trial, Handle] = {}
        """Requested trials whose start is in the store; the others that run are speculative."""
        self._unrequested: dict[Trial, TrialResult] = {}
        """Results of speculative trials that have not been requested yet."""

    def run(self) -> None:
        """Run the study to its end.

        Raises:
            D90Error: the store or the executor cannot be used.
        """
        while self._start_requested():
            self._start_speculative()
            wait(self._running.values(), return_when=FIRST_COMPLETED)
            for trial in [trial for trial, future in self._running.items() if future.done()]:
                self._finish(trial)
        self._cancel(self._speculative())

    def _start_requested(self) -> bool:
        """Start requested trials while the executor has room; returns whether any are left."""
        while True:
            requested = self._study.protocol.next_trials(self._results())
            trial = next((trial for trial in requested if trial not in self._recorded), None)
            if trial is None:
                return bool(requested)
            if trial in self._unrequested:
                self._record_start(trial)
                self._save(self._unrequested.pop(trial))
            elif trial in self._running:
                self._record_start(trial)
            elif not self._make_room(requested):
                return True
            elif not self._reuse(trial):
                self._record_start(trial)
                self._submit(trial)

    def _start_speculative(self) -> None:
        """Give idle workers trials that may be requested next; cancel those that no longer can."""
        free = self._executor.slots - len(self._recorded)
        speculative = self._speculative()
        if free <= 0 and not speculative:
            return
        possible = speculative_trials(
            self._study.protocol, self._results(), max(free, len(speculative))
        )
        self._cancel([trial for trial in speculative if trial not in possible])
        for trial in possible:
            if len(self._running) >= self._executor.slots:
                return
            is_started = trial in self._unrequested or trial in self._running
            if not is_started and not self._has_result(trial):
                self._submit(trial)

    def _make_room(self, requested: Sequence[Trial]) -> bool:
        """Cancel a speculative trial if all slots are taken; returns whether there is room now."""
        if len(self._running) >= self._executor.slots:
            self._cancel([trial for trial in self._speculative() if trial not in requested][-1:])
        return len(self._running) < self._executor.workers

    def _results(self) -> list[TrialResult]:
        return self._study.scored(self._store.results())

    def _has_result(self, trial: Trial) -> bool:
        key = self._study.problem.key(trial)
        return self._store.has_result(key, accept=self._study.has_score)

    def _speculative(self) -> list[Trial]:
        return [trial for trial in self._running if trial not in self._recorded]

    def _record_start(self, trial: Trial) -> None:
        self._recorded[trial] = self._store.start(trial, self._study.problem.key(trial))

    def _submit(self, trial: Trial) -> None:
        self._callback.on_trial_begin(trial)
        self._running[trial] = self._executor.submit(trial, self._report_progress(trial))

    def _report_progress(self, trial: Trial) -> OnProgress:
        return lambda progress: self._callback.on_progress(trial, progress)

    def _finish(self, trial: Trial) -> None:
        result = self._running.pop(trial).result()
        if trial in self._recorded:
            self._save(result)
        else:
            self._unrequested[trial] = result

    def _save(self, result: TrialResult) -> None:
        self._store.finish(self._recorded.pop(result.trial), result)
        self._callback.on_trial_end(self._study, result, self._store.results(), reused=False)

    def _reuse(self, trial: Trial) -> bool:
        """Take the result from another study of the store, if one has it."""
        key = self._study.problem.key(trial)
        result = self._store.reuse(trial, key, accept=self._study.has_score)
        if result is None:
            return False
        self._callback.on_trial_end(self._study, result, self._store.results(), reused=True)
        return True

    def _cancel(self, trials: Collection[Trial]) -> None:
        for trial in trials:
            del self._running[trial]
            self._executor.cancel(trial)
            self._callback.on_trial_cancelled(trial)
