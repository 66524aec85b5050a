"""`kill -9` at random moments: `scripts/kill_test.py` with few kills of a tiny model."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "kill_test.py"


def test_a_killed_study_ends_with_the_same_runs(ready_folder: Path, toy_folder: Path) -> None:
    search = ("--dims", "2,10,50", "--learning-rates", "0.003,0.01", "--head-seed", "1")
    training = ("--steps", "24", "--batch-size", "8", "--max-length", "16")
    said = subprocess.run(
        [sys.executable, SCRIPT, ready_folder, toy_folder, "--kills", "2", *search, *training],
        env={**os.environ, "PYTHONUTF8": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stdout + said.stderr
    assert said.stdout.count("killed at") == 2
    assert "runs that differ: 0; finished twice: 0" in said.stdout
