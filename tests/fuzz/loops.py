"""Runs of a training loop on one layer, whose checkpoints are fuzzed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from d90.distributed.process_group import ProcessGroup
from d90.pretraining.checkpoints import Evaluation
from d90.pretraining.trainer import PretrainState
from d90.training import TrainConfig
from d90.training.loop import LoopState, TrainingLoop
from d90.training.state import EpochResult, TrainState


class OneLayer(TrainingLoop[Any]):
    """Two optimizer steps of a linear layer."""

    steps = 1_000_000

    def __init__(self, state: LoopState) -> None:
        self.layer = nn.Linear(3, 2)
        super().__init__(
            self.layer,
            state,
            TrainConfig(precision="no"),
            optimizer=torch.optim.AdamW,
            learning_rate=1e-3,
            seed=0,
            run_name="fuzz",
            process_group=ProcessGroup(),
        )
        for _ in range(2):
            self.optimizer_step()

    def _losses(self, step: int) -> Iterator[Tensor]:
        yield self.layer(torch.ones(3)).square().sum()

    def _record(self, loss: float) -> None:
        pass

    def _identity(self) -> dict[str, Any]:
        return {"model": "0" * 64, "learning_rate": 1e-3, "seed": 0}


def training() -> OneLayer:
    """A fine-tuning run after its first epoch."""
    state = TrainState(first_loss=0.7, epoch_losses=[0.7, 0.6])
    state.recent.extend([0.7, 0.6])
    state.epochs.append(EpochResult(1, 2, 0.65, 0.5, 0.5, {"validation": 0.5}, False))
    return OneLayer(state)


def pretraining() -> OneLayer:
    """A pretraining run after its first evaluation."""
    return OneLayer(PretrainState(losses=[2.5], history=[Evaluation(0, 0, None, 5.5, 1.0)]))
