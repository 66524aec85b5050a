"""Pretraining configuration."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import torch
from accelerate.tracking import GeneralTracker

from d90.errors import D90Error
from d90.training.config import TrainConfig, check_learning_rate

MIN_LENGTH = 16
"""Minimum tokens per block: 15% of fewer may be none."""

MAX_LENGTH = 2**16 - 1

MIN_SEQUENCE_LENGTH = 2
"""Minimum tokens per sequence: a single token has no context."""

ADAM = partial(torch.optim.AdamW, betas=(0.9, 0.98), eps=1e-6, fused=True)
"""Liu et al. (2019), Section 3.1 and Table 9."""


@dataclass(frozen=True)
class PretrainConfig:
    """Pretraining configuration.

    Attributes:
        max_steps: optimizer steps.
        learning_rate: peak; it rises from 0 over the warm-up and falls to 0 at the end, linearly.
        checkpoints: the steps after which the model is saved, in ascending order.
        evaluate_every: steps between evaluations; there is also one at each checkpoint.
        batch_size: blocks per forward pass.
        gradient_accumulation_steps: forward passes per optimizer step, whose loss is the mean over
            all their masked tokens.
        max_length: tokens per block.
        sequence_length_schedule: (length, step) in ascending order: until that step, every block
            is split into sequences of that length (Press et al. 2021); whole blocks after the last
            step. Evaluation always reads whole blocks.
        warmup_ratio: fraction of the steps.
        weight_decay: of every parameter, decoupled (AdamW).
        max_grad_norm: gradients are clipped to this norm; None for no clipping. The
            paper does not clip; its batches have 8,000 sequences, and smaller ones have noisier
            gradients.
        max_eval_blocks: maximum number of blocks of an evaluation.
        seed: of the initial weights, the order of the blocks, the masks and dropout.
        precision: see `d90.training.TrainConfig`.
        log_with: a tracker of accelerate, such as `tensorboard`, or None.
    """

    max_steps: int
    learning_rate: float
    checkpoints: tuple[int, ...]
    evaluate_every: int
    batch_size: int = 64
    gradient_accumulation_steps: int = 1
    max_length: int = 128
    sequence_length_schedule: tuple[tuple[int, int], ...] = ()
    warmup_ratio: float = 0.06
    weight_decay: float = 0.01
    max_grad_norm: float | None = 1.0
    max_eval_blocks: int = 512
    seed: int = 0
    precision: str = "auto"
    log_with: str | GeneralTracker | None = None

    def __post_init__(self) -> None:
        _ = self.train_config  # its checks
        check_learning_rate(self.learning_rate)
        for name in ("evaluate_every", "max_eval_blocks"):
            if getattr(self, name) < 1:
                raise D90Error(f"{name} {getattr(self, name)}: at least 1 is expected.")
        if not MIN_LENGTH <= self.max_length <= MAX_LENGTH:
            raise D90Error(
                f"max_length {self.max_length}: from {MIN_LENGTH} to {MAX_LENGTH} is expected."
            )
        self._check_schedule()
        if not 0 <= self.seed < 2**64:
            raise D90Error(f"seed {self.seed}: a whole number from 0 to 2^64 - 1 is expected.")
        outside = [step for step in self.checkpoints if not 0 <= step <= self.max_steps]
        if outside:
            raise D90Error(f"checkpoints has {outside[0]}: from 0 to {self.max_steps} is expected.")

    def _check_schedule(self) -> None:
        previous = 0
        for length, step in self.sequence_length_schedule:
            if length < MIN_SEQUENCE_LENGTH or self.max_length % length:
                raise D90Error(
                    f"sequence_length_schedule: length {length}: a number from "
                    f"{MIN_SEQUENCE_LENGTH} on that divides "
                    f"max_length {self.max_length} is expected."
                )
            if not previous < step <= self.max_steps:
                raise D90Error(
                    f"sequence_length_schedule: step {step}: ascending numbers "
                    f"from 1 to {self.max_steps} are "
                    "expected."
                )
            previous = step

    def sequence_length_at(self, step: int) -> int:
        """Sequence length of optimizer step `step`, from 0."""
        return next(
            (length for length, last in self.sequence_length_schedule if step < last),
            self.max_length,
        )

    @property
    def train_config(self) -> TrainConfig:
        """The fields shared with fine-tuning."""
        return TrainConfig(
            optimizer="adamw",
            max_steps=self.max_steps,
            batch_size=self.batch_size,
            gradient_accumulation_steps=self.gradient_accumulation_steps,
            warmup_ratio=self.warmup_ratio,
            max_grad_norm=self.max_grad_norm,
            weight_decay=self.weight_decay,
            precision=self.precision,
            log_with=self.log_with,
        )

    @property
    def blocks_per_step(self) -> int:
        return self.batch_size * self.gradient_accumulation_steps

    @property
    def tokens_per_step(self) -> int:
        return self.blocks_per_step * self.max_length

    def to_dict(self) -> dict[str, Any]:
        """The settings by name, in JSON types, but not `log_with`: it affects no result."""
        names = [field.name for field in fields(self) if field.name != "log_with"]
        return {
            **{name: getattr(self, name) for name in names},
            "checkpoints": [*self.checkpoints],
            # None, as in summaries that predate the schedule.
            "sequence_length_schedule": [[*stage] for stage in self.sequence_length_schedule]
            or None,
        }


def checkpoint_steps(
    steps: int, *, every: int | None = None, listed: tuple[int, ...] | None = None
) -> tuple[int, ...]:
    """The steps after which the model is saved: 0, the last one, and the requested ones.

    Args:
        steps: optimizer steps of the run.
        every: steps between checkpoints; by default a tenth of `steps`.
        listed: the steps, instead of `every`.

    Raises:
        D90Error: both are given, or `every` is below 1.

    >>> checkpoint_steps(1000, every=400), checkpoint_steps(1000, listed=(300, 100))
    ((0, 400, 800, 1000), (0, 100, 300, 1000))
    """
    if listed is not None:
        if every is not None:
            raise D90Error("checkpoint_every and checkpoints: give one of them.")
        return tuple(sorted({0, *listed, steps}))
    every = -(-steps // 10) if every is None else every
    if every < 1 and steps > 0:
        raise D90Error(f"checkpoint_every {every}: a whole number of at least 1 is expected.")
    return tuple(sorted({*range(0, steps, max(every, 1)), steps}))
