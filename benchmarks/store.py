"""A proposal in a large store: the protocol's next trial, and whether a stored result is reused.

    python -m benchmarks.store --trials 10000 --studies 5

Prints the median and the largest time over the repetitions, in milliseconds. The store is an SQLite
file in a temporary folder; each trial has a history of ten epochs.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Annotated

import typer

from d90.search.protocols import ListProtocol
from d90.search.trial import Trial, TrialResult
from d90.storage.store import Store, StudyStore

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


def fill(path: Path, study: StudyStore, count: int) -> None:
    """Finish a trial, and copy it in the database `count` times under other keys."""
    handle = study.start(Trial(1000, 0.001), f"{study.name} 0")
    study.finish(handle, result_of(handle.trial))
    with closing(sqlite3.connect(path)) as database, database:
        (start,) = database.execute("SELECT max(trial_id) FROM trials").fetchone()
        for number in range(1, count):
            database.execute(
                "INSERT INTO trials SELECT ?, ?, study_id, state, datetime_start, "
                "datetime_complete FROM trials WHERE trial_id = ?",
                (start + number, number, handle.id),
            )
        for table in ("trial_params", "trial_values", "trial_user_attributes"):
            _, _, *columns = (row[1] for row in database.execute(f"PRAGMA table_info({table})"))
            database.executemany(
                f"INSERT INTO {table} (trial_id, {', '.join(columns)}) "
                f"SELECT ?, {', '.join(columns)} FROM {table} WHERE trial_id = ?",
                [(start + number, handle.id) for number in range(1, count)],
            )
        database.executemany(
            "UPDATE trial_user_attributes SET value_json = ? WHERE trial_id = ? AND key = 'key'",
            [(f'"{study.name} {number}"', start + number) for number in range(1, count)],
        )


def proposals(path: Path, count: int, studies: int, repetitions: int) -> list[float]:
    """Milliseconds of each proposal in a study beside `studies` others of `count` trials in all."""
    for number in range(studies):
        with Store(path).study({"number": number}, "study") as study:
            fill(path, study, count // studies)
    protocol = ListProtocol(dims=range(1, repetitions + 1), learning_rates=(0.01,))
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
