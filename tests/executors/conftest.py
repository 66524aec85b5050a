"""A runner of the tiny model on the toy task."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.helpers.executors import CONFIG, MakeRunner

from d90.executors import TrialRunner
from d90.tasks import Task
from d90.training import TrainConfig


@pytest.fixture(scope="module")
def runner(ready_folder: Path, toy_task: Task) -> MakeRunner:
    def new(config: TrainConfig = CONFIG) -> TrialRunner:
        return TrialRunner(str(ready_folder), toy_task, config, max_length=16)

    return new
