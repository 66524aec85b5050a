"""A trainer of the tiny model on the toy task."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.helpers.executors import SETTINGS, NewTrainer

from d90.executors import TrialRunner
from d90.tasks import Task
from d90.training import TrainConfig


@pytest.fixture(scope="module")
def runner(ready_folder: Path, toy_task: Task) -> NewTrainer:
    def new(settings: TrainConfig = SETTINGS) -> TrialRunner:
        return TrialRunner(str(ready_folder), toy_task, settings, max_length=16)

    return new
