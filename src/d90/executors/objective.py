"""Runs a trial by calling a user's own function."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import SupportsFloat, get_args

import torch

from d90.distributed.process_group import ProcessGroup, get_process_group
from d90.errors import D90Error, single_line, unknown_name
from d90.executors.base import OnProgress, run_guarded
from d90.search.summary import RANGES
from d90.search.trial import Status, Trial, TrialResult

ObjectiveFunction = Callable[[Trial], SupportsFloat | TrialResult]
"""Trains with `trial.d` parameters (None for all) and returns the score, or a whole result."""

LOWEST, HIGHEST = RANGES["metric"]
"""The range of scores."""

ROUNDING = 1e-6
"""How far above the largest score a float32 may round."""


class ObjectiveRunner:
    """Runs trials in this process by calling a function.

    Args:
        function: of a trial.
        name: what it trains, for errors.
    """

    trial_memory = 0

    def __init__(self, function: ObjectiveFunction, name: str) -> None:
        self.function, self.name = function, name

    @property
    def factory(self) -> Callable[[], ObjectiveRunner]:
        """Makes an equal runner in another process.

        Raises:
            D90Error: the function cannot be pickled.
        """
        try:
            return partial(_unpickled, pickle.dumps(self.function), self.name)
        except Exception as error:
            raise D90Error(
                f"objective '{self.name}' cannot be sent to other processes "
                f"({single_line(error, 200)}): define it at a module's top level, or choose the "
                "executor 'serial' or 'ray'."
            ) from error

    @property
    def process_group(self) -> ProcessGroup:
        """The processes that a launcher started with this one: all call the function."""
        return get_process_group()

    @property
    def device(self) -> torch.device:
        """A GPU if there is one: the function may use it."""
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def run(self, trial: Trial, on_progress: OnProgress | None = None) -> TrialResult:
        """Call the function; a trial that raises gives a result with status `failed`.

        Raises:
            D90Error: as `run_guarded`; the function returned no score.
        """
        start = perf_counter()
        result = run_guarded(
            lambda: result_of(self.function(trial), trial),
            trial,
            device=self.device,
            world_size=self.process_group.world_size,
        )
        return replace(result, seconds=result.seconds or perf_counter() - start)


def result_of(value: object, trial: Trial) -> TrialResult:
    """The result of a trial from what its objective returned.

    A score that is not finite, or below the range of scores, is that of a run that `diverged`.

    Raises:
        D90Error: it is neither a number nor a `TrialResult`, or a score above 1.
    """
    if isinstance(value, TrialResult):
        result = replace(value, trial=trial)
        if result.status not in get_args(Status):
            raise unknown_name("status", str(result.status), get_args(Status))
    else:
        result = TrialResult(trial, "ok", metric=_number(value, trial))
    if result.status == "ok" and result.metric is None:
        raise D90Error(f"the objective returned no metric for {trial}, with the status 'ok'.")
    metric, train_metric = _in_range(result.metric), _in_range(result.train_metric)
    if result.status == "ok" and metric is None:
        message = f"its score is {result.metric:.4g}, not from {LOWEST:g} to {HIGHEST:g}"
        return replace(
            result, status="diverged", metric=None, train_metric=train_metric, message=message
        )
    return replace(result, metric=metric, train_metric=train_metric)


def _number(value: object, trial: Trial) -> float:
    try:
        if isinstance(value, SupportsFloat):
            return float(value)
    except (TypeError, ValueError, RuntimeError):  # An array of several numbers.
        pass
    raise D90Error(
        f"the objective returned {single_line(repr(value), 60)} for {trial}: expected a number or "
        "a TrialResult."
    )


def _in_range(score: float | None) -> float | None:
    """The score; None if it is of a run that diverged.

    Raises:
        D90Error: it is finite and too large.
    """
    if score is None or not math.isfinite(score) or score < LOWEST:
        return None
    if score > HIGHEST + ROUNDING:
        raise D90Error(
            f"the objective returned the score {score:.6g}: a score rises to at most {HIGHEST:g}: "
            "scale it so that 0 is worthless and 1 the best there can be."
        )
    return min(float(score), HIGHEST)


def _unpickled(function: bytes, name: str) -> ObjectiveRunner:
    """The runner, in another process.

    Raises:
        D90Error: the function's module cannot be imported there.
    """
    try:
        return ObjectiveRunner(pickle.loads(function), name)
    except Exception as error:
        raise D90Error(
            f"objective '{name}' cannot be loaded in another process ({single_line(error, 200)}): "
            "define it at the top level of a module in a file."
        ) from error
