"""Kill a study at random moments, let it finish, and compare it with one that was left alone.

    python scripts/kill_test.py                           # minilm-l6 on a bundled task, five kills
    python scripts/kill_test.py MODEL TASK --kills 3 --dims 10,100 --steps 20

Options that this script does not know go to `d90 measure`. Everything runs in one thread, because
two add up in another order. Exit code 1 where the two differ in anything but seconds, or where a
run was finished twice.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import optuna

from d90.store import KEY, RECORD

SMALL = (
    *("--train-limit", "256", "--eval-limit", "128", "--max-length", "32", "--batch-size", "16"),
    *("--steps", "16", "--dims", "10,100,1000", "--learning-rates", "0.004,0.016"),
    *("--seeds", "0,1", "--full-learning-rates", "1e-4"),
)
"""What `d90 measure` gets when no option is given: 13 short runs."""

A_RUN = ("full fine-tuning, ", "d = ")
"""How the line of a finished run begins."""


@dataclass(frozen=True)
class Kill:
    """One process that was killed: runs done when it began and when it ended, seconds it lived."""

    began: int
    ended: int
    seconds: float


@dataclass(frozen=True)
class Place:
    """A study of its own: the command that runs it, and where its store and its report are."""

    folder: Path
    measure: Sequence[str]

    def start(self) -> subprocess.Popen[str]:
        """Run the command, or continue it."""
        places = ("--store", str(self.folder / "d90.db"), "--output", str(self.folder))
        return subprocess.Popen(
            [sys.executable, "-m", "d90", "measure", *self.measure, *places],
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUTF8": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )

    def finish(self) -> None:
        """Run it to its end.

        Raises:
            SystemExit: when it fails; what it said is on standard error.
        """
        process = self.start()
        process.communicate()
        if process.returncode:
            sys.exit(f"d90 measure ended with code {process.returncode}")

    def trials(self) -> list[dict[str, Any]]:
        """The runs in `summary.json`, but for their seconds."""
        trials = json.loads((self.folder / "summary.json").read_text())["trials"]
        return [{k: v for k, v in trial.items() if k != "seconds"} for trial in trials]

    def stored(self) -> tuple[list[str], int]:
        """Keys of the finished runs in the store, and how many runs were lost in flight."""
        url = f"sqlite:///{self.folder / 'd90.db'}"
        (name,) = optuna.get_all_study_names(url)
        runs = optuna.load_study(study_name=name, storage=url).get_trials()
        keys = [run.user_attrs[KEY] for run in runs if RECORD in run.user_attrs]
        return keys, len(runs) - len(keys)


def kill_at(place: Place, moment: float, run_seconds: float, done: int) -> Kill:
    """Run the study on, and kill it `moment` runs from its very beginning.

    Args:
        place: the study.
        moment: 3.5 is the middle of the fourth run.
        run_seconds: what a run takes.
        done: runs that are finished already.

    Raises:
        SystemExit: when the study ends first.
    """
    process, began, start = place.start(), done, time.monotonic()
    assert process.stdout is not None
    is_open = False
    while not (is_open and done >= int(moment)):
        line = process.stdout.readline()
        if not line:
            sys.exit("the study ended before it was killed: give it more runs, or longer ones")
        is_open = is_open or "majority" in line
        done += line.startswith(A_RUN)
    time.sleep((moment - int(moment)) * run_seconds)
    process.kill()
    done += sum(line.startswith(A_RUN) for line in process.stdout)
    process.wait()
    return Kill(began, done, time.monotonic() - start)


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare, print, and say by the exit code whether all is well."""
    parser = argparse.ArgumentParser(description="Kill a study, and compare.")
    parser.add_argument("model", nargs="?", default="minilm-l6")
    parser.add_argument("task", nargs="?", default="wordnet-supersense")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--kill-seed", type=int, default=0, help="of the moments")
    known, options = parser.parse_known_args(arguments)
    measure = (known.model, known.task, *(options or SMALL))
    with tempfile.TemporaryDirectory(prefix="d90 kill test ") as folder:
        left_alone, killed = (Place(Path(folder, name), measure) for name in ("alone", "killed"))
        print(f"d90 measure {' '.join(measure)}", flush=True)
        left_alone.finish()
        expected = json.loads((left_alone.folder / "summary.json").read_text())["trials"]
        if len(expected) <= known.kills:
            sys.exit(f"{len(expected)} runs are too few for {known.kills} kills: see its summary")
        run_seconds = fmean(trial["seconds"] for trial in expected)
        print(f"left alone: {len(expected)} runs of {run_seconds:.1f} s", flush=True)
        draw = random.Random(known.kill_seed)
        done = 0
        for moment in sorted(draw.uniform(0, len(expected)) for _ in range(known.kills)):
            kill = kill_at(killed, moment, run_seconds, done)
            done = kill.ended
            print(
                f"killed at {moment:5.2f} runs, after {kill.seconds:4.1f} s: "
                f"{kill.began} runs done before, {kill.ended} now",
                flush=True,
            )
        killed.finish()
        return compare(left_alone, killed)


def compare(left_alone: Place, killed: Place) -> int:
    """Print what differs; 0 where nothing does."""
    expected, found = left_alone.trials(), killed.trials()
    different = [pair for pair in zip(expected, found, strict=False) if pair[0] != pair[1]]
    keys, lost = killed.stored()
    twice = len(keys) - len(set(keys))
    for one, other in different:
        print(f"differs:\n  {one}\n  {other}")
    print(f"runs in summary.json: {len(expected)} left alone, {len(found)} killed")
    print(f"runs that differ: {len(different)}; finished twice: {twice}; lost in flight: {lost}")
    same = expected == found and not twice and len(keys) == len(expected)
    print("the same" if same else "NOT the same")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
