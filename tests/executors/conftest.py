"""A trainer of the tiny model on the toy task."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.helpers.executors import SETTINGS, NewTrainer

from d90.executors import LocalExecutor
from d90.tasks import Task
from d90.training import TrainSettings


@pytest.fixture(scope="module")
def trainer(ready_folder: Path, toy_task: Task) -> NewTrainer:
    def new(settings: TrainSettings = SETTINGS) -> LocalExecutor:
        return LocalExecutor(str(ready_folder), toy_task, settings, max_length=16)

    return new
