"""Run trials in this process, one after another: `submit` returns when the trial has ended."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass

from d90.executors.base import OnProgress, Runner
from d90.search.trial import Trial, TrialResult


@dataclass(frozen=True)
class SerialExecutor:
    """An executor with one worker: this process."""

    runner: Runner
    workers: int = 1
    slots: int = 1

    def __enter__(self) -> SerialExecutor:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def submit(self, trial: Trial, on_progress: OnProgress) -> Future[TrialResult]:
        """Run the trial; see `Executor.submit`."""
        future: Future[TrialResult] = Future()
        future.set_result(self.runner.run(trial, on_progress))
        return future

    def cancel(self, trial: Trial) -> None:
        """Does nothing: the trial has ended when `submit` returns."""
