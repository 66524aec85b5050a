"""The host's own work in an optimizer step: all but the model's forward and backward pass.

On a GPU the host must queue a step's kernels faster than the GPU runs them. The model is a BERT of
four groups so small that arithmetic costs next to nothing, and a batch has 32 examples of 4 to 16
tokens. The forward and backward pass of the same model without a subspace is timed beside the
optimizer step; the difference, repetition by repetition, is the host's own work. Its parts are
timed by themselves as well. Times are of the processor: other processes count for little.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import BertConfig, BertForSequenceClassification

from benchmarks.cases import Case
from benchmarks.entries import Entry
from benchmarks.timing import Work, side_by_side, spread
from d90.subspace import Subspace, attach
from d90.tasks.kinds import Classification
from d90.tasks.tokens import TokenizedSplit, collate
from d90.training.config import TrainConfig
from d90.training.data import TokenizedTask
from d90.training.loop import dropout_seed, seed_dropout
from d90.training.trainer import Trainer

ROWS, SHORTEST, LONGEST, VOCABULARY = 32, 4, 16, 100
D_SMALL = 100
AT_MOST = 1.0
"""Milliseconds of the host's own work in a step: the target."""

CALLS = 10
METHODS = ("did", "said")


def cases(*, quick: bool) -> list[Case]:
    """One case for each method."""
    repetitions = 3 if quick else 31
    return [Case(f"host work, {m}", partial(_measure, m, repetitions)) for m in METHODS]


def _measure(method: str, repetitions: int) -> list[Entry]:
    run, plain = new_trainer(method), bert()
    for _ in range(3):
        run.optimizer_step()
    work = {
        "optimizer step": run.optimizer_step,
        "model": _model_pass(plain, run),
        **_parts(run),
    }
    gc.collect()
    times = side_by_side(work, repetitions, calls=CALLS, warmup=3, clock=time.process_time)
    own = [a - b for a, b in zip(times["optimizer step"], times["model"], strict=True)]
    entries = []
    for name, seconds in {"the host's own work": own, **times}.items():
        milliseconds = spread([1e3 * s for s in seconds])
        target = AT_MOST if seconds is own else None
        title = f"{method.upper()}, 4-group BERT, {name}"
        about = {"kind": "host work", "subspace": method, "part": name}
        entries.append(Entry.of(title, milliseconds, "ms", at_most=target, **about))
    return entries


def bert() -> BertForSequenceClassification:
    """Embeddings, two layers and a head: 12,818 weights."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=LONGEST,
    )
    return BertForSequenceClassification(config)


def examples(rows: int = 64 * ROWS) -> TokenizedSplit:
    """Random examples of `SHORTEST` to `LONGEST` tokens."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(SHORTEST, LONGEST + 1, (rows,), generator=generator)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    total = int(offsets[-1])
    tokens = torch.randint(5, VOCABULARY, (total,), generator=generator, dtype=torch.int32)
    columns = {"input_ids": tokens, "token_type_ids": torch.zeros_like(tokens)}
    return TokenizedSplit(columns, offsets, torch.randint(2, (rows,), generator=generator))


def new_trainer(method: str) -> Trainer:
    """A run in a subspace, on random examples."""
    split = examples()
    data = TokenizedTask(
        kind=Classification(("no", "yes")),
        metric="accuracy",
        train=split,
        train_eval_subset=split,
        evaluation={"validation": split},
        padding={"input_ids": 0, "token_type_ids": 0},
        padding_side="right",
    )
    model = bert()
    attach(model, d=D_SMALL, method=method)
    config = TrainConfig(max_steps=10**6, batch_size=ROWS, precision="no")
    return Trainer(model, data, config, learning_rate=1e-4)


def _model_pass(model: nn.Module, run: Trainer) -> Work:
    """Forward and backward of plain weights, on the batches that the run is given next."""
    batches: dict[int, tuple[dict[str, Tensor], Tensor]] = {}
    device = run.accelerator.device
    model.to(device).train()
    passes = iter(range(10**9))
    steps = run.steps_per_epoch
    for step in range(steps):
        (rows,) = run._batches_of(step)
        batches[step] = collate(run.data, run.data.train, rows, device)

    def call() -> None:
        inputs, labels = batches[next(passes) % steps]
        (cross_entropy(model(**inputs).logits, labels, reduction="sum") / len(labels)).backward()
        model.zero_grad()

    return call


def _parts(run: Trainer) -> dict[str, Work]:
    subspace = run.model.get_submodule("subspace")
    assert isinstance(subspace, Subspace)
    vectors = [p.grad if p.grad is not None else torch.zeros_like(p) for p in subspace.parameters()]
    (rows,) = run._batches_of(0)

    def theta() -> None:
        with torch.no_grad():
            subspace.z.add_(1e-9)
        subspace.materialize()

    device = run.accelerator.device

    return {
        "seed of dropout": lambda: seed_dropout(dropout_seed(run.seed, run.state.step), device),
        "batch": lambda: collate(run.data, run.data.train, rows, device),
        "theta": theta,
        "theta and its gradient": _with_gradient(subspace, theta),
        "clipping, checks and optimizer": _finish(run, vectors),
    }


class _WithGradients(torch.autograd.Function):
    """A value whose derivatives are given."""

    @staticmethod
    def forward(ctx: Any, gradients: Sequence[Tensor], *tensors: Tensor) -> Tensor:
        ctx.gradients = gradients
        return tensors[0].new_zeros(())

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> tuple[Any, ...]:
        return None, *ctx.gradients


def _with_gradient(subspace: Subspace, theta: Callable[[], None]) -> Work:
    gradients = [torch.ones_like(theta_0) for theta_0 in subspace.theta_0.values()]

    def call() -> None:
        theta()
        tensors = [getattr(*sites[0]) for sites in subspace.sites.values()]
        _WithGradients.apply(gradients, *tensors).backward()
        subspace.zero_grad()

    return call


def _finish(run: Trainer, gradients: list[Tensor]) -> Work:
    """An optimizer step without batches, that finds these gradients."""
    losses = run._losses

    def nothing(step: int) -> Iterator[Tensor]:
        for parameter, gradient in zip(run.parameters.values(), gradients, strict=True):
            parameter.grad = gradient
        return iter(())

    def call() -> None:
        run._losses = nothing  # pyright: ignore[reportAttributeAccessIssue]
        run.optimizer_step()
        run._losses = losses  # pyright: ignore[reportAttributeAccessIssue]

    return call
