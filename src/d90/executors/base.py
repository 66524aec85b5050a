"""What a driver wants of an executor."""

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
"""A trial whose worker died so often has failed: it would kill the next one too."""

SECONDS_BETWEEN = 0.2
"""Progress goes from one process to another no more often."""


def throttle(tell: OnProgress) -> OnProgress:
    """Tell at most five times a second, but always a new metric and the last update."""
    due, last_metric = 0.0, None

    def tell_some(progress: Progress) -> None:
        nonlocal due, last_metric
        is_news = progress.metric != last_metric or progress.step == progress.steps
        if monotonic() >= due or is_news:
            due, last_metric = monotonic() + SECONDS_BETWEEN, progress.metric
            tell(progress)

    return tell_some


class Cancelled(BaseException):
    """Raised in a run that is not needed any more; not an error, which would be a result."""


def worker_died(trial: Trial, attempts: int, why: str, *, seconds: float) -> TrialResult:
    """What came of a trial that so many workers did not survive."""
    message = f"its worker died {attempts} times: {why}"[:300]
    return TrialResult(trial, "failed", seconds=seconds, message=message)


def study_ended() -> D90Error:
    """The error of a trial that still ran when its study was over."""
    return D90Error("the study was ended while this trial ran.")


class Executor(Protocol):
    """Runs trials; a context that ends what still runs."""

    @property
    def workers(self) -> int:
        """How many trials it takes at once; what exceeds its slots waits."""
        ...

    @property
    def slots(self) -> int:
        """How many trials can run at once now, at most `workers`."""
        ...

    def __enter__(self) -> Executor: ...

    def __exit__(self, *error: object) -> None: ...

    def submit(self, trial: Trial, on_progress: OnProgress) -> Future[TrialResult]:
        """Start a trial. Progress may be told from another thread.

        A trial that raises gives a record that says so (`failed`); the future itself raises only
        what ends the study.
        """
        ...

    def cancel(self, trial: Trial) -> None:
        """End a trial that was submitted, at its next update; what its future gives is void."""
        ...
