"""A study that is to be disturbed: its command, what it prints, its records and its answer."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any

import psutil

from d90.search.trial import Trial, TrialResult
from d90.storage.store import KEY, Store

INJECT = Path(__file__).parent / "inject"

A_RUN = ("full fine-tuning, ", "d = ")
"""How the line of a finished run begins."""

PATIENCE = 240.0
"""Seconds without which no command may take, on a busy machine."""

ANSWER = ("d90", "status", "interval", "threshold", "full_metric", "majority", "warnings")


@dataclass(frozen=True)
class Study:
    """A study of its own: where its store and its report are, and how its runs are made.

    Attributes:
        measure: arguments of `d90 measure`, but for the places.
        folder: of the report, and of what the command says.
        store: a path or a URL.
        executor: options that say where runs are made.
    """

    measure: Sequence[str]
    folder: Path
    store: str
    executor: Sequence[str] = ()

    def start(self) -> Command:
        """Give the command."""
        return Command(
            [
                *(sys.executable, "-m", "d90", "measure", *self.measure, *self.executor),
                *("--store", self.store, "--output", str(self.folder / "report")),
            ]
        )

    def results(self) -> dict[Trial, dict[str, Any]]:
        """The finished runs; those that `failed` are none.

        A run that was finished twice is an error here, whatever the store says of it.
        """
        finished: dict[Trial, dict[str, Any]] = {}
        for _, result in self._runs():
            if result.status == "failed":
                continue
            if result.trial in finished:
                raise Violation(f"{result.trial} was finished twice")
            finished[result.trial] = asdict(result)
        return finished

    def keys(self) -> Counter[str]:
        """How often each run was finished, by what decides it."""
        return Counter(key for key, result in self._runs() if result.status != "failed")

    def answer(self) -> dict[str, Any]:
        """What `summary.json` says, but for times and places."""
        summary = json.loads((self.folder / "report" / "summary.json").read_text())
        trials = [{k: v for k, v in t.items() if k != "seconds"} for t in summary["trials"]]
        found = {name: summary[name] for name in ANSWER}
        return {**found, "trials": sorted(trials, key=_asked)}

    def _runs(self) -> list[tuple[str, TrialResult]]:
        if "://" not in self.store and not Path(self.store).exists():
            return []
        storage = Store(self.store, create=False)._storage
        return [
            (trial.user_attrs[KEY], TrialResult.from_json(trial.user_attrs["record"]))
            for study in storage.get_all_studies()
            for trial in storage.get_all_trials(study._study_id)
            if "record" in trial.user_attrs and trial.state.is_finished()
        ]


def _asked(trial: dict[str, Any]) -> tuple[float, float, int]:
    return trial["d"] or 0, trial["learning_rate"], trial["seed"]


class Violation(Exception):
    """Something that no fault may do."""


@dataclass
class Command:
    """A command that runs, and what it has said."""

    arguments: Sequence[str]
    done: int = 0
    is_open: bool = False
    said: list[str] = field(default_factory=list)
    complained: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        path = os.pathsep.join([str(INJECT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
        quiet = {"PYTHONUTF8": "1", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "200"}
        self.process = subprocess.Popen(
            self.arguments,
            env={**os.environ, **quiet, "PYTHONPATH": path, "HF_HUB_DISABLE_PROGRESS_BARS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._readers = [Thread(target=read, daemon=True) for read in (self._listen, self._hear)]
        for reader in self._readers:
            reader.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line.rstrip())
            self.is_open = self.is_open or "majority" in line
            self.done += line.startswith(A_RUN)

    def _hear(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.complained.append(line.rstrip())

    def runs_until(self, moment: float, run_seconds: float) -> bool:
        """Wait until so many runs are done in this session; False where it ended before.

        Args:
            moment: 3.5 is the middle of the fourth run.
            run_seconds: what a run takes.
        """
        deadline = time.monotonic() + PATIENCE
        while not (self.is_open and self.done >= int(moment)):
            if self.process.poll() is not None:
                return False
            self._check(deadline)
            time.sleep(0.02)
        time.sleep((moment - int(moment)) * run_seconds)
        return self.process.poll() is None

    def end(self) -> int:
        """The exit code, when it has ended."""
        deadline = time.monotonic() + PATIENCE
        while self.process.poll() is None:
            self._check(deadline)
            time.sleep(0.02)
        for reader in self._readers:
            reader.join(timeout=10)  # A worker that outlives a killed driver keeps the pipe open.
        return self.process.returncode

    def workers(self) -> list[psutil.Process]:
        """The processes that make its runs, where it has such."""
        found = psutil.Process(self.process.pid).children()
        return [child for child in found if "spawn_main" in " ".join(child.cmdline())]

    def stop(self) -> None:
        """End it, whatever it does."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def _check(self, deadline: float) -> None:
        if time.monotonic() > deadline:
            self.stop()
            raise Violation(f"no end after {PATIENCE:.0f} s; it said {self.said[-3:]}")


def check_complaints(command: Command, *, wanted: str | None, allowed: Sequence[str]) -> None:
    """What a command says on standard error: all that it must, and nothing else.

    Raises:
        Violation: naming the line.
    """
    lines = [line for line in command.complained if line.strip()]
    if wanted is not None and not any(re.search(wanted, line) for line in lines):
        raise Violation(f"nothing on standard error says '{wanted}': {lines}")
    known = [*allowed, *([wanted] if wanted else [])]
    for line in lines:
        if not any(re.search(pattern, line) for pattern in known):
            raise Violation(f"unexpected on standard error: {line}")
