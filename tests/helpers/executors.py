"""Shared by the tests of the executors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import psutil

from d90.executors import TrialRunner
from d90.search.trial import Trial, TrialResult
from d90.training import Progress, TrainConfig

CONFIG = TrainConfig(epochs=2, batch_size=8, precision="no")
ENDLESS = replace(CONFIG, epochs=5000)
"""A trial that lasts until it is cancelled."""

TRIALS = [Trial(None, 0.02), *(Trial(d, 0.012, seed) for d in (20, 50) for seed in (0, 1))]

MakeRunner = Callable[..., TrialRunner]


def ignore_progress(_: Progress) -> None:
    pass


def without_time(result: TrialResult) -> TrialResult:
    return replace(result, seconds=0.0)


def with_command(processes: Sequence[psutil.Process], words: str) -> list[psutil.Process]:
    """The processes whose command line contains the words; an exited one has none."""

    def command(process: psutil.Process) -> str:
        try:
            return " ".join(process.cmdline())
        except psutil.Error:
            return ""

    return [process for process in processes if words in command(process)]
