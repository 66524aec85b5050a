"""Estimated time of a training run."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from time import perf_counter

import torch
from torch import nn

from d90.training.config import TrainConfig, subspace_learning_rate
from d90.training.data import TokenizedTask, evaluation_batches
from d90.training.evaluation import predict
from d90.training.trainer import Trainer

WARMUP_STEPS = 2
"""Optimizer steps before the timed ones. The first allocates; it is at z = 0, where nothing is
projected, so that on a GPU the kernels of the projection compile in the second."""


def estimate_seconds(
    model: nn.Module,
    data: TokenizedTask,
    config: TrainConfig,
    *,
    learning_rate: float,
    seed: int = 0,
    d: int | None = None,
    timed_steps: int = 3,
) -> float:
    """Seconds that `train` would take, from a few timed optimizer steps and one evaluation batch.

    These steps train the model: give it one that is not needed any more.
    """
    run = Trainer(
        model,
        data,
        replace(config, max_steps=WARMUP_STEPS + timed_steps),
        learning_rate=subspace_learning_rate(learning_rate, d, optimizer=config.optimizer),
        lam_learning_rate=learning_rate,
        seed=seed,
    )
    device = run.accelerator.device
    seconds_per_call(run.optimizer_step, WARMUP_STEPS, device)
    step_seconds = seconds_per_call(run.optimizer_step, timed_steps, device)
    primary = data.evaluation[data.primary]
    batches = evaluation_batches(primary.lengths, run.evaluation_batch_size)
    middle = batches[len(batches) // 2]

    def evaluate() -> None:
        predict(model, data, primary, [middle], run.accelerator, run.process_group)

    evaluate()
    row_seconds = seconds_per_call(evaluate, 1, device) / len(middle)
    run.close()
    steps = config.max_steps or config.epochs * run.steps_per_epoch
    rows = sum(map(len, (data.train_eval_subset, *data.evaluation.values())))
    return steps * step_seconds + math.ceil(steps / run.steps_per_epoch) * rows * row_seconds


def seconds_per_call(action: Callable[[], object], times: int, device: torch.device) -> float:
    """Seconds of a call, the mean of so many; a GPU is waited for before the clock is read."""
    _synchronize(device)
    start = perf_counter()
    for _ in range(times):
        action()
    _synchronize(device)
    return (perf_counter() - start) / times


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
