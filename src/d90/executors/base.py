"""The executor interface: what the scheduler runs trials through."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from time import monotonic
from typing import Protocol

from d90.errors import D90Error
from d90.search.trial import Trial, TrialResult
from d90.training import Progress

OnProgress = Callable[[Progress], None]

ATTEMPTS = 3
"""A trial whose worker died this many times has failed: it would kill the next one too."""

MIN_SECONDS_BETWEEN_REPORTS = 0.2
"""Progress is sent from one process to another at most this often."""


def throttle(report: OnProgress) -> OnProgress:
    """Report at most five times a second, but always a new metric and the last step."""
    due, last_metric = 0.0, None

    def report_some(progress: Progress) -> None:
        nonlocal due, last_metric
        is_always_sent = progress.metric != last_metric or progress.step == progress.steps
        if monotonic() >= due or is_always_sent:
            due, last_metric = monotonic() + MIN_SECONDS_BETWEEN_REPORTS, progress.metric
            report(progress)

    return report_some


class Cancelled(BaseException):
    """Raised in a trial that is no longer needed; not an `Exception`, which would be a result."""


def worker_died(trial: Trial, attempts: int, reason: str, *, seconds: float) -> TrialResult:
    """The result of a trial whose worker died at each of its attempts."""
    message = f"its worker died {attempts} times: {reason}"[:300]
    return TrialResult(trial, "failed", seconds=seconds, message=message)


def study_ended() -> D90Error:
    """The error of a trial that was still running when its study ended."""
    return D90Error("the study ended while this trial was running.")


class Executor(Protocol):
    """Runs trials; a context manager that ends those still running."""

    @property
    def workers(self) -> int:
        """Number of trials that it accepts at once; those beyond `slots` wait."""
        ...

    @property
    def slots(self) -> int:
        """Number of trials that can run at once now, at most `workers`."""
        ...

    def __enter__(self) -> Executor: ...

    def __exit__(self, *error: object) -> None: ...

    def submit(self, trial: Trial, on_progress: OnProgress) -> Future[TrialResult]:
        """Start a trial. `on_progress` may be called from another thread.

        A trial that raises gives a result with status `failed`; the future itself raises only
        errors that end the study.
        """
        ...

    def cancel(self, trial: Trial) -> None:
        """End a submitted trial at its next optimizer step; the result of its future is void."""
        ...
