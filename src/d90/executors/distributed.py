"""A study whose trials are each run by several processes: one leads, the others follow.

Only the main process has the store, the display and the protocol. It broadcasts each trial, which
all processes run, and in the end the results.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any, NoReturn

from d90.errors import D90Error
from d90.executors.base import Executor, OnProgress, Runner
from d90.executors.serial import SerialExecutor
from d90.search.trial import Trial, TrialResult
from d90.utils.digest import json_digest


def run_distributed(
    runner: Runner,
    settings: Mapping[str, Any],
    executor: Executor,
    drive: Callable[[Executor], Sequence[TrialResult]],
) -> Sequence[TrialResult]:
    """The results of a study, in every process.

    Args:
        runner: runs a trial; it has the process group.
        settings: what identifies the study: the same in every process.
        executor: where trials run if this process is alone.
        drive: runs the study on an executor; called in the main process.

    Raises:
        D90Error: in every process, if their studies differ or `drive` raises it.
    """
    process_group = runner.process_group
    if process_group.world_size == 1:
        return drive(executor)
    process_group.assert_same_on_all_ranks(
        "study", {name: json_digest(value) for name, value in settings.items()}
    )
    if not process_group.is_main_process:
        return _follow(runner)
    leader = DistributedExecutor(runner)
    try:
        results = drive(leader)
    except BaseException as error:
        # During a trial the others do not listen: the launcher ends them, or their connection to
        # this process breaks.
        if not leader.is_busy:
            with suppress(D90Error):
                process_group.broadcast_object(partial(_raise_as_d90_error, error))
        raise
    return process_group.broadcast_object(lambda: results)


class DistributedExecutor:
    """An executor with one worker: a `SerialExecutor` in each process.

    It broadcasts each trial to the other processes, which run it too.
    """

    workers = slots = 1

    def __init__(self, runner: Runner) -> None:
        self._process_group, self._serial = runner.process_group, SerialExecutor(runner)
        self.is_busy = False

    def __enter__(self) -> DistributedExecutor:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def submit(self, trial: Trial, on_progress: OnProgress) -> Future[TrialResult]:
        """Run the trial in all processes; see `Executor.submit`."""
        self._process_group.broadcast_object(lambda: trial)
        self.is_busy = True  # It stays True if the trial raises.
        future = self._serial.submit(trial, on_progress)
        self.is_busy = False
        return future

    def cancel(self, trial: Trial) -> None:
        """Does nothing: the trial has ended when `submit` returns."""


def _raise_as_d90_error(error: BaseException) -> NoReturn:
    raise error if isinstance(error, D90Error) else D90Error(str(error) or type(error).__name__)


def _follow(runner: Runner) -> Sequence[TrialResult]:
    """Run the trials that the main process sends, until it sends the results."""
    while True:
        message: Any = runner.process_group.broadcast_object(list)
        if not isinstance(message, Trial):
            return message
        runner.run(message)
