"""Estimate of the cost of a run, before it starts."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from d90.pretraining.dataset import TokenBlocks
from d90.pretraining.masking import PERCENT
from d90.pretraining.model import new_model
from d90.pretraining.model_sizes import num_parameters
from d90.pretraining.plan import PretrainJob
from d90.pretraining.tokenizer import SPECIAL, Vocabulary
from d90.pretraining.trainer import PretrainTrainer
from d90.rng import philox
from d90.training.cost import WARMUP_STEPS, seconds_per_call
from d90.training.memory import estimate_memory

LOGIT_COPIES = 3
"""The logits, their float32 copy or probabilities, and their gradient."""


@dataclass(frozen=True)
class CostEstimate:
    """The estimated cost of a run.

    Attributes:
        D: number of parameters.
        tokens: read in total, repeated ones included.
        seconds: of training and evaluation, without tokenization.
        memory: bytes.
    """

    D: int
    tokens: int
    seconds: float
    memory: int


def estimate_cost(job: PretrainJob, *, timed_steps: int = 3) -> CostEstimate:
    """Estimate the cost from a few timed optimizer steps and one evaluation batch."""
    # Whole blocks take a little longer than short sequences.
    config, size = replace(job.config, sequence_length_schedule=()), job.fields["vocab_size"]
    special = tuple(range(len(SPECIAL)))
    tokens = Vocabulary(size=size, start=0, pad=1, end=2, mask=4, special=special)
    drawn = philox.words(0, philox.Stream.DATA, 0, 64 * config.max_length)
    ids = philox.to_integers(drawn, size - len(SPECIAL)).numpy() + len(SPECIAL)
    blocks = TokenBlocks(ids.astype(np.uint32), config.max_length, tokens.start)
    model = new_model(job.fields, tokens, config.max_length, config.seed)
    run = PretrainTrainer(model, tokens, blocks, blocks, config, identity={})
    device = run.accelerator.device
    seconds_per_call(run.optimizer_step, WARMUP_STEPS, device)
    step = seconds_per_call(run.optimizer_step, timed_steps, device)
    run.validation_loss(max_batches=1)
    batch = seconds_per_call(lambda: run.validation_loss(max_batches=1), 1, device)
    run.close()
    evaluations = len({*range(0, config.max_steps, config.evaluate_every), *config.checkpoints})
    batches = -(-config.max_eval_blocks // config.batch_size)
    return CostEstimate(
        D=num_parameters(job.fields),
        tokens=config.max_steps * config.tokens_per_step,
        seconds=config.max_steps * step + evaluations * batches * batch,
        memory=_memory(job, model, device),
    )


def _memory(job: PretrainJob, model: nn.Module, device: torch.device) -> int:
    config = job.config
    batch, length = config.batch_size, config.max_length
    need = estimate_memory(
        model,
        d=None,
        optimizer="adamw",
        batch_size=batch,
        max_length=length,
        precision=config.train_config.autocast,
        device=device,
    )
    # Only the trained copy of the weights is in memory, and fused Adam has no temporaries.
    need = replace(need, base=0, temporaries=0)
    chosen = batch * length * PERCENT // 100
    return need.total + LOGIT_COPIES * 4 * chosen * job.fields["vocab_size"]
