"""A study whose every run is made by several processes together: one leads, the others follow.

The first process drives: it alone has the store, the display and the protocol. It tells the others
each trial, all run it, and in the end it tells them the records.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict
from typing import Any

from d90.errors import D90Error
from d90.executors.base import Executor, OnProgress
from d90.executors.runner import TrialRunner
from d90.executors.serial import SerialExecutor
from d90.search.trial import Trial, TrialResult
from d90.utils.digest import json_digest


def run_distributed(
    runner: TrialRunner,
    settings: Mapping[str, Any],
    executor: Executor,
    drive: Callable[[Executor], Sequence[TrialResult]],
) -> Sequence[TrialResult]:
    """The records of a study, in every process.

    Args:
        trainer: what runs a trial; it knows the processes.
        settings: what tells the study from others: the same in every process.
        executor: where trials run if this process is alone.
        drive: makes the study's runs on an executor; called in the first process.

    Raises:
        D90Error: in every process, where their studies differ or the first one's `drive` raises it.
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
        # During a trial the others do not listen: they learn of it from the launcher, which ends
        # them, or from the connection, which ends with this process.
        if not leader.is_busy:
            end = {"error": str(error) or type(error).__name__}
            process_group.broadcast_object(lambda: end)
        raise
    process_group.broadcast_object(lambda: {"records": [result.to_json() for result in results]})
    return results


class DistributedExecutor:
    """An executor of one worker, which is all processes together: a `SerialExecutor` that
    tells the others each trial.
    """

    workers = slots = 1

    def __init__(self, runner: TrialRunner) -> None:
        self._process_group, self._here = runner.process_group, SerialExecutor(runner)
        self.is_busy = False

    def __enter__(self) -> DistributedExecutor:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def submit(self, trial: Trial, on_progress: OnProgress) -> Future[TrialResult]:
        """Run the trial with all processes, in `Executor`'s terms."""
        self._process_group.broadcast_object(lambda: {"trial": asdict(trial)})
        self.is_busy = True  # And stays so where the trial raises.
        future = self._here.submit(trial, on_progress)
        self.is_busy = False
        return future

    def cancel(self, trial: Trial) -> None:
        """Nothing runs any more when `submit` has returned."""


def _follow(runner: TrialRunner) -> list[TrialResult]:
    """Run what the first process says, until it says what came of it all."""
    while True:
        said = runner.process_group.broadcast_object(dict)
        if "error" in said:
            raise D90Error(said["error"])
        if "records" in said:
            return [TrialResult.from_json(result) for result in said["records"]]
        runner.run(Trial(**said["trial"]))
