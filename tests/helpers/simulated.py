"""Studies whose trials are those of a simulated world: nothing is trained."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

from benchmarks.worlds import World, make_world

from d90.executors.base import OnProgress
from d90.experiments.problem import SHARED_SETTINGS
from d90.search.subspace_config import SubspaceConfig
from d90.search.trial import Trial, TrialResult

WORLD = make_world("logistic", 3, "paired")


class Workers:
    """An executor that answers at once.

    Args:
        slots: trials that it accepts at once.
        before: called before each trial.
    """

    def __init__(self, slots: int = 1, before: Callable[[], None] = lambda: None) -> None:
        self.slots = self.workers = slots
        self.before = before
        self.submitted: list[Trial] = []

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def submit(self, trial: Trial, on_progress: OnProgress) -> Future[TrialResult]:
        self.before()
        self.submitted.append(trial)
        future: Future[TrialResult] = Future()
        future.set_result(WORLD.run(trial))
        return future

    def cancel(self, trial: Trial) -> None:
        raise AssertionError("nothing is speculative")


def problem_of(world: World, **identity: Any) -> Any:
    """A problem that only has what a study asks for."""
    identity = {"theta_0": "t", "data": world.number, "tokens": "k", "random": "r", **identity}
    named = {"model": "model", "task": "task"}
    return SimpleNamespace(
        settings={**named, **identity, "criterion": "accuracy"},
        shared_settings=SHARED_SETTINGS,
        facts={},
        prefix="model-task-did",
        criterion="accuracy",
        metric="accuracy",
        majority=world.majority,
        reference="majority class",
        floor=world.majority,
        floor_reference="majority class",
        evaluation_size=world.evaluation_size,
        has_binomial_noise=True,
        description=lambda: {**named, "subspace": SubspaceConfig("did"), "D": 10**6},
        D=10**6,
        runner=SimpleNamespace(process_group=SimpleNamespace(world_size=1)),
        check_dims=lambda dims: None,
        key=lambda trial: f"{identity} {trial}",
    )
