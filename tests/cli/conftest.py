"""The command line, in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from d90.cli import main

QUICK = (
    *("--max-length", "16", "--batch-size", "8", "--max-steps", "12", "--precision", "no"),
    *("--baseline-learning-rates", "0.01", "--learning-rates", "0.01"),
    # With this seed, the untrained head of the tiny model is wrong about every example.
    *("--head-seed", "3"),
)
"""With these options a trial of the tiny model takes a fraction of a second; d90 is about 10."""


class Result(NamedTuple):
    code: int
    out: str
    err: str


Command = Callable[..., Result]


@pytest.fixture
def d90(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Command:
    """Run `d90` with these arguments, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")

    def call(*arguments: object) -> Result:
        words = [str(argument) for argument in arguments]
        monkeypatch.setattr(sys, "argv", ["d90", *words])
        with pytest.raises(SystemExit) as exit:
            main(words)
        out, err = capsys.readouterr()
        return Result(int(exit.value.code or 0), out, err)

    return call


@pytest.fixture
def measure(d90: Command, ready_folder: Path, toy_folder: Path) -> Command:
    """Run `d90 measure` of the tiny model on the toy task, with further options."""

    def call(*options: object) -> Result:
        return d90("measure", ready_folder, toy_folder, *QUICK, *options)

    return call
