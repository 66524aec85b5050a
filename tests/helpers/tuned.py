"""Adapters of the tiny model, made in a second: what several tests start from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import d90
from d90.adapters import Adapter
from d90.experiments.tune import AdapterTuner
from d90.training import TrainConfig


def tuning(
    model: Path,
    task: Path,
    *,
    d: int = 50,
    rate: float = 0.01,
    seed: int = 0,
    qat_epochs: int = 0,
    **options: Any,
) -> AdapterTuner:
    """A fine-tune of the tiny model that is about to start."""
    settings = TrainConfig(epochs=2, batch_size=8, precision="no")
    options = {"training": settings, "max_length": 16, "head_seed": 3, **options}
    problem = d90.load_problem(str(model), task, **options)
    return AdapterTuner(problem, d=d, learning_rate=rate, seed=seed, qat_epochs=qat_epochs)


def tuned(model: Path, task: Path, **options: Any) -> Adapter:
    """The file of a fine-tune of the tiny model."""
    return tuning(model, task, **options).train()
