"""Checkpoints that a run does not resume from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.fuzz.loops import OneLayer, pretraining, training
from torch import Tensor

from d90.errors import D90Error
from d90.training.checkpoint import save_checkpoint

Change = Callable[[dict[str, Tensor], dict[str, Any]], object]

CHANGES: dict[str, Change] = {
    "'run' is missing": lambda tensors, state: state.pop("run"),
    "'step' is missing": lambda tensors, state: state["run"].pop("step"),
    "step is '1'": lambda tensors, state: state["run"].update(step="1"),
    "step -1 of": lambda tensors, state: state["run"].update(step=-1),
    "step 1000001 of": lambda tensors, state: state["run"].update(step=1_000_001),
    "unknown key 'more'": lambda tensors, state: state["run"].update(more=1),
    "unknown tensor 'other'": lambda tensors, state: tensors.update(other=torch.ones(2)),
    "unknown tensor 'optimizer.x.step'": lambda tensors, state: tensors.update(
        {"optimizer.x.step": torch.ones(())}
    ),
    r"shape \(3, 2\)": lambda tensors, state: tensors.update(
        {"parameter.weight": torch.ones(3, 2)}
    ),
    "in torch.int32": lambda tensors, state: tensors.update(
        {"parameter.bias": torch.ones(2, dtype=torch.int32)}
    ),
    "parameter.bias are missing": lambda tensors, state: tensors.pop("parameter.bias"),
    "optimizer.1 are missing": lambda tensors, state: tensors.pop("optimizer.1.exp_avg"),
    "optimizer.0.step is -1": lambda tensors, state: tensors["optimizer.0.step"].fill_(-1),
}


@pytest.mark.parametrize("make", [training, pretraining])
@pytest.mark.parametrize("message", CHANGES)
def test_a_damaged_checkpoint_changes_nothing(
    message: str, make: Callable[[], OneLayer], tmp_path: Path
) -> None:
    run, file = make(), tmp_path / "checkpoint.safetensors"
    tensors = {name: tensor.clone() for name, tensor in run._tensors().items()}
    state = {"identity": run._identity(), "run": {**run.state.to_json(), "seconds": 1.0}}
    save_checkpoint(file, tensors, state)
    run.resume(file)
    before = {name: tensor.clone() for name, tensor in run._tensors().items()}
    CHANGES[message](tensors, state)
    save_checkpoint(file, tensors, state)
    with pytest.raises(D90Error, match=f"is damaged .*{message}.*remove it"):
        run.resume(file)
    assert all(torch.equal(before[name], tensor) for name, tensor in run._tensors().items())
