"""`python -m benchmarks.executors`: one grid of 40 trials in every executor, and what they cost.

The trials are so short that what is measured is the executor and the driver. Each worker's own
start (Python, torch, the model) is told apart: it is the time until the first trials have ended.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from tests.helpers.tiny import toy_task, write_ready_model, write_task, write_tiny_model

from d90.executors import make_executor
from d90.experiments.callbacks import Callback
from d90.experiments.measure import run_study
from d90.experiments.problem import load_problem
from d90.experiments.study import Study
from d90.search.protocols import ListProtocol
from d90.search.summary import Summary
from d90.search.trial import TrialResult
from d90.storage.store import Store
from d90.training import TrainConfig

GRID = ListProtocol(
    dims=(1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 100, 200, 500),
    learning_rates=(0.004, 0.008, 0.016),
    baseline_learning_rates=(0.01,),
)
PLACES: dict[str, dict[str, Any]] = {
    "serial": {},
    "processes": {"workers": 2},
    "ray": {"workers": 2},
}


@dataclass
class Clock(Callback):
    """When each trial ended."""

    ends: list[float] = field(default_factory=list)

    def on_trial_end(
        self, study: Study, result: TrialResult, results: Sequence[TrialResult], *, reused: bool
    ) -> None:
        self.ends.append(perf_counter())


@dataclass(frozen=True)
class Cost:
    """What a grid cost in an executor, in seconds.

    Attributes:
        wall: from the call to the summary, without loading the model in this process.
        start: until each worker has ended its first trial.
        training: the sum over trials of what training took.
        overhead: of a trial: the time of the workers after the start that was no training.
    """

    trials: int
    wall: float
    start: float
    training: float
    overhead: float


def measure(study: Study, name: str, store: Path) -> tuple[Cost, Summary]:
    """The grid in one executor, from nothing."""
    clock, began = Clock(), perf_counter()
    executor = make_executor(name, study.problem.runner, **PLACES[name])
    slots = executor.slots
    summary = run_study(study, Store(store), executor=executor, callback=clock)
    wall = perf_counter() - began
    first, last = clock.ends[slots - 1], clock.ends[-1]
    seconds = [result.seconds for result in summary.trials]
    later = sum(sorted(seconds)[: len(seconds) - slots])  # The first ones are the slowest.
    overhead = ((last - first) * slots - later) / (len(seconds) - slots)
    return Cost(len(seconds), wall, first - began, sum(seconds), overhead), summary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=60, help="updates of a trial (60)")
    steps = parser.parse_args().steps
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        study = _study(Path(folder), steps)
        print("| executor | trials | wall, s | until the first have ended, s | training, s | "
              "overhead a trial, s |\n|---|---|---|---|---|---|")  # fmt: skip
        answers = []
        for name in PLACES:
            cost, summary = measure(study, name, Path(folder) / f"{name}.db")
            print(
                f"| {name} | {cost.trials} | {cost.wall:.1f} | {cost.start:.1f} | "
                f"{cost.training:.1f} | {cost.overhead:.3f} |",
                flush=True,
            )
            trials = [replace(result, seconds=0.0) for result in summary.ordered_trials]
            answers.append((summary.d90, summary.status, summary.interval, trials))
    same = all(answer == answers[0] for answer in answers)
    print(f"d90 = {answers[0][0]}, {answers[0][1]}; the same records from all: {same}")
    raise SystemExit(0 if same else 1)


def _study(folder: Path, steps: int) -> Study:
    tiny, model, task = folder / "tiny", folder / "model", folder / "task"
    write_tiny_model(tiny)
    write_ready_model(tiny, model)
    write_task(toy_task(), task)
    training = TrainConfig(max_steps=steps, batch_size=8, precision="no")
    problem = load_problem(str(model), task, training=training, max_length=16, head_seed=3)
    return Study(problem, GRID)


if __name__ == "__main__":
    main()
