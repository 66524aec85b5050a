"""The executor interface: what the scheduler runs trials through."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future
from time import monotonic, perf_counter
from typing import Protocol

import torch

from d90.distributed.process_group import ProcessGroup
from d90.errors import DISK_FULL_ERRNOS, D90Error, disk_full, single_line
from d90.executors.device import DeviceLostError, is_lost
from d90.search.trial import Trial, TrialResult
from d90.training import Progress

_log = logging.getLogger(__name__)

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


class Runner(Protocol):
    """Runs one trial at a time: all that an executor needs to know of what is trained."""

    @property
    def name(self) -> str:
        """What it trains, for errors."""
        ...

    @property
    def factory(self) -> Callable[[], Runner]:
        """Makes an equal runner in another process, to which it is pickled.

        Raises:
            D90Error: it cannot be pickled.
        """
        ...

    @property
    def process_group(self) -> ProcessGroup:
        """The processes that run each trial together."""
        ...

    @property
    def device(self) -> torch.device:
        """Where trials run in this process."""
        ...

    @property
    def trial_memory(self) -> int:
        """Bytes that the largest trial takes on the device; 0 if unknown."""
        ...

    def run(self, trial: Trial, on_progress: OnProgress | None = None) -> TrialResult:
        """Run a trial; one that raises gives a result with status `failed` (`run_guarded`).

        Raises:
            D90Error: what ends the study.
            DeviceLostError: this process can no longer use its GPU.
        """
        ...


def run_guarded(
    train: Callable[[], TrialResult], trial: Trial, *, device: torch.device, world_size: int
) -> TrialResult:
    """What `train` returns; if it raises, a result with status `failed`.

    If several processes run the trial, any error ends the study: the others cannot continue alone.

    Raises:
        D90Error: as `train`; or the disk is full.
        DeviceLostError: this process can no longer use its GPU.
    """
    start = perf_counter()
    try:
        return train()
    except D90Error:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in DISK_FULL_ERRNOS:
            raise disk_full(f"'{error.filename or 'a file of the run'}'", error.errno) from error
        message = single_line(f"{type(error).__name__}: {error}")[:300]
        if is_lost(device):
            raise DeviceLostError(message) from error
        if world_size > 1:
            raise
        _log.debug("trial %s failed", trial, exc_info=True)
        return TrialResult(trial, "failed", seconds=perf_counter() - start, message=message)


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
