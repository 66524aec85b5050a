"""One `d90 measure` of many, and a queue that runs what has no result yet."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from d90.report import wording
from d90.search.criteria import collapse_floor, score_floor, scored
from d90.search.estimate import Estimate, estimate
from d90.search.ladder import ladder
from d90.search.summary import FILE_NAME, Summary

ROOT = Path(__file__).parents[2]

SOURCES = ("models", "data")
"""Folders of models and tasks, linked beside the reports, so that no report names a machine."""

REPETITIONS = 3
"""Of the studies that are repeated with other seeds."""

SEEDS_APART = 100
"""Distance of the first seeds of repetitions: more than any study takes."""

DIMS = ladder(10, 100_000)
"""Of the adaptive protocol by default."""


class Command(Protocol):
    """A command that can be interrupted and goes on when it is given again.

    Attributes:
        name: of its log.
        arguments: what follows `python -m`; paths are relative to the folder of all results.
        result: a file or folder that is there once it has ended.
    """

    @property
    def name(self) -> str: ...

    @property
    def arguments(self) -> list[str]: ...

    @property
    def result(self) -> str: ...


@dataclass(frozen=True)
class Study:
    """A study of a model on a task, with a store of its own: it shares no trial with another.

    Attributes:
        name: of its folder and store; may have slashes.
        model: as `d90 measure` takes it.
        task: likewise.
        options: of `d90 measure`, without `--store` and `--output`.
    """

    name: str
    model: str
    task: str
    options: tuple[str, ...] = ()

    @property
    def arguments(self) -> list[str]:
        """What follows `python -m`."""
        files = (f"--store={self.name}.db", f"--output={self.name}")
        return ["d90", "measure", self.model, self.task, *self.options, *files]

    @property
    def result(self) -> str:
        """The summary."""
        return f"{self.name}/{FILE_NAME}"


def load(folder: Path, studies: Iterable[Study]) -> dict[Study, Summary]:
    """The summaries of the studies that have ended."""
    return {
        study: Summary.load(folder / study.result)
        for study in studies
        if (folder / study.result).exists()
    }


def run(folder: Path, commands: Sequence[Command], sources: Path, *, processes: int = 1) -> bool:
    """Run what has no result yet, several commands at a time; whether all of it ended well.

    Args:
        folder: of the results and logs, where the commands run.
        commands: in this order.
        sources: has the folders of `SOURCES`.
        processes: commands at a time; the cores are shared between them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in SOURCES:
        if not (folder / name).exists():
            (folder / name).symlink_to((sources / name).resolve(), target_is_directory=True)
    due = [command for command in commands if not (folder / command.result).exists()]
    print(f"{len(due)} of {len(commands)} are due", flush=True)
    threads = max((os.cpu_count() or 1) // processes, 1)
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": path}
    failed = 0
    with ThreadPoolExecutor(processes) as pool:
        try:
            running = {pool.submit(_run, folder, command, environment): command for command in due}
            for count, future in enumerate(as_completed(running), 1):
                failed += not future.result()
                print(f"{count} of {len(due)}: {_outcome(folder, running[future])}", flush=True)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return failed == 0


def pooled(summaries: Sequence[Summary], criterion: str) -> Estimate:
    """d90 from the trials of all repetitions together.

    Args:
        summaries: repetitions of one row.
        criterion: `accuracy` or a smooth one, whose skills every trial has.
    """
    first = summaries[0]
    trials = [result for summary in summaries for result in summary.trials]
    return estimate(
        scored(trials, criterion, collapse_floor(first.majority, first.reference)),
        majority=score_floor(criterion, first.majority),
        evaluation_size=first.examples["metric"],
        dims=DIMS,
        D=first.D,
    )


def answer(found: Estimate) -> str:
    """d90 with its interval, or the status."""
    if found.d90 is None:
        return found.status
    low, high = found.interval or (None, None)
    return f"{found.d90:,} ({wording.format_interval(low, high)})"


def _run(folder: Path, command: Command, environment: Mapping[str, str]) -> bool:
    log = folder / f"{command.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        done = subprocess.run(
            [sys.executable, "-m", *command.arguments],
            cwd=folder,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    return done.returncode == 0


def _outcome(folder: Path, command: Command) -> str:
    if not (folder / command.result).exists():
        return f"{command.name} did not end well: see {folder / command.name}.log"
    if not isinstance(command, Study):
        return command.name
    summary = Summary.load(folder / command.result)
    minutes = sum(result.seconds for result in summary.trials) / 60
    answer = summary.status if summary.d90 is None else f"{summary.d90:,}"
    return (
        f"{command.name}: {summary.quantity} = {answer} ({wording.interval(summary)}), "
        f"{len(summary.trials)} trials, {minutes:.0f} min"
    )
