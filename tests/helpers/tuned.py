"""Task files of the tiny model, made in a second: what several tests start from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import d90
from d90.adapters import TaskFile
from d90.experiments.tune import Tuning
from d90.search.protocols import make
from d90.training import TrainSettings


def tuning(
    model: Path,
    task: Path,
    *,
    d: int = 50,
    rate: float = 0.01,
    seed: int = 0,
    quantised_epochs: int = 0,
    **options: Any,
) -> Tuning:
    """A fine-tune of the tiny model that is about to start."""
    settings = TrainSettings(1.0, epochs=2, batch_size=8, precision="no")
    options = {"training": settings, "max_length": 16, "head_seed": 3, **options}
    search = make("list", dims=[d], learning_rates=[rate], seeds=[seed])
    study = d90.plan(str(model), task, protocol=search, **options)
    return Tuning(study, quantised_epochs=quantised_epochs)


def tuned(model: Path, task: Path, **options: Any) -> TaskFile:
    """The file of a fine-tune of the tiny model."""
    return tuning(model, task, **options).train()
