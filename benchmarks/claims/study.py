"""One `d90 measure` of many, and a queue that measures what has no report yet."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from d90.report import wording
from d90.search.summary import FILE_NAME, Summary

SOURCES = ("models", "data")
"""Folders of models and tasks, linked beside the reports, so that no report names a machine."""


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
        """What follows `d90`."""
        files = (f"--store={self.name}.db", f"--output={self.name}")
        return ["measure", self.model, self.task, *self.options, *files]


def load(folder: Path, studies: Iterable[Study]) -> dict[Study, Summary]:
    """The summaries of the studies that have ended."""
    files = {study: folder / study.name / FILE_NAME for study in studies}
    return {study: Summary.load(file) for study, file in files.items() if file.exists()}


def run(folder: Path, studies: Sequence[Study], sources: Path, *, processes: int = 1) -> bool:
    """Measure what is not measured yet, several studies at a time; whether all of it ended well.

    Args:
        folder: of the reports, stores and logs.
        studies: what to measure, in this order.
        sources: has the folders of `SOURCES`.
        processes: studies at a time; the cores are shared between them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in SOURCES:
        if not (folder / name).exists():
            (folder / name).symlink_to((sources / name).resolve(), target_is_directory=True)
    due = [study for study in studies if study not in load(folder, studies)]
    print(f"{len(due)} of {len(studies)} studies are due", flush=True)
    threads = max((os.cpu_count() or 1) // processes, 1)
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    failed = 0
    with ThreadPoolExecutor(processes) as pool:
        try:
            running = {pool.submit(_measure, folder, study, environment): study for study in due}
            for count, future in enumerate(as_completed(running), 1):
                failed += not future.result()
                print(f"{count} of {len(due)}: {_outcome(folder, running[future])}", flush=True)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return failed == 0


def _measure(folder: Path, study: Study, environment: Mapping[str, str]) -> bool:
    log = folder / f"{study.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        done = subprocess.run(
            [sys.executable, "-m", "d90", *study.arguments],
            cwd=folder,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    return done.returncode == 0


def _outcome(folder: Path, study: Study) -> str:
    found = load(folder, [study])
    if study not in found:
        return f"{study.name} has no report: see {folder / study.name}.log"
    summary = found[study]
    minutes = sum(result.seconds for result in summary.trials) / 60
    answer = summary.status if summary.d90 is None else f"{summary.d90:,}"
    return (
        f"{study.name}: {summary.quantity} = {answer} ({wording.interval(summary)}), "
        f"{len(summary.trials)} trials, {minutes:.0f} min"
    )
