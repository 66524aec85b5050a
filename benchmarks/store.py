"""A proposal in a large store: the protocol's next trial, and whether a stored result is reused.

    python -m benchmarks.store --trials 10000 --studies 5

Prints the median and the largest time over the repetitions, in milliseconds. The store is an SQLite
file in a temporary folder; each trial has a history of ten epochs.
"""

from __future__ import annotations

from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Annotated

import typer
from optuna.trial import create_trial

from d90.search.protocols import Listed
from d90.search.trial import Trial, TrialResult
from d90.storage import store as store_module
from d90.storage.store import Store, StudyStore

RATES = (0.001, 0.002, 0.004, 0.008)
AT_MOST = 50.0
"""Milliseconds that a proposal may take."""


def result_of(trial: Trial) -> TrialResult:
    """A made-up result with a history of ten epochs."""
    epochs = tuple(
        {"epoch": e, "step": 100 * e, "loss": 1 / e, "metric": 0.5, "train_metric": 0.5}
        for e in range(1, 11)
    )
    metrics = {f"{split}/{name}": 0.5 for split in ("train", "dev") for name in ("accuracy", "f1")}
    return TrialResult(trial, "ok", 0.5, 0.5, 60.0, metrics, epochs)


def fill(study: StudyStore, count: int) -> None:
    """Write `count` finished trials, each in one statement of the storage."""
    for number in range(count):
        trial = Trial(1000 + number // len(RATES), RATES[number % len(RATES)])
        described = store_module._described(trial, f"{study.name} {trial}")
        described["user_attrs"]["record"] = result_of(trial).to_json()
        state, values = store_module._outcome(result_of(trial))
        finished = create_trial(state=state, values=values, **described)
        study._storage.create_new_trial(study._study_id, finished)


def proposals(path: Path, count: int, studies: int, repetitions: int) -> list[float]:
    """Milliseconds of each proposal in a study beside `studies` others of `count` trials in all."""
    for number in range(studies):
        with Store(path).study({"number": number}, "study") as study:
            fill(study, count // studies)
    protocol = Listed(dims=range(1, repetitions + 1), learning_rates=(0.01,))
    milliseconds = []
    with Store(path).study({"number": 0}, "study") as study:
        for _ in range(repetitions):
            began = perf_counter()
            trial = protocol.next_trials(study.results())[0]
            assert study.reuse(trial, f"new {trial}") is None
            milliseconds.append(1000 * (perf_counter() - began))
            study.finish(study.start(trial, f"new {trial}"), result_of(trial))
    return milliseconds


def main(
    trials: Annotated[int, typer.Option(help="In all studies.")] = 10_000,
    studies: Annotated[int, typer.Option()] = 5,
    repetitions: Annotated[int, typer.Option()] = 20,
) -> None:
    """Measure the time of a proposal."""
    with TemporaryDirectory() as folder:
        first, *later = proposals(Path(folder) / "d90.db", trials, studies, repetitions)
    print(f"{trials} trials in {studies} studies, a proposal in milliseconds:")
    print(f"first (reads the store) {first:.1f}, median {median(later):.1f}, max {max(later):.1f}")
    if median(later) > AT_MOST:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
