"""A random BERT, what it is trained on, and its subspaces."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, BertConfig

from benchmarks.gpu.compare import SEED, normal
from benchmarks.gpu.part import Setup
from d90.subspace import Subspace, attach
from d90.tasks.kinds import Classification
from d90.tasks.tokens import TokenizedSplit
from d90.training.data import TokenizedTask

LABELS = 2


def vocabulary(setup: Setup) -> int:
    """Number of tokens of `bert`."""
    return setup.size(30_522, 40)


def bert(setup: Setup, *, attention: str = "sdpa", dropout: float = 0.0) -> nn.Module:
    """A BERT with random weights, the same in every call, on the CPU in evaluation mode."""
    layers, width = setup.size((3, 128), (1, 8))
    config = BertConfig(
        vocab_size=vocabulary(setup),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=setup.size(2, 1),
        intermediate_size=4 * width,
        max_position_embeddings=setup.size(512, 8),
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForSequenceClassification.from_config(
            config, attn_implementation=attention
        )
    return model.eval()


def subspace_of(setup: Setup, model: nn.Module, method: str, projection: str) -> Subspace:
    """A subspace of the model, with z = 0."""
    d = setup.size(1_000, 40)
    return attach(model, d=d, method=method, projection=projection, seed=SEED)


@torch.no_grad()
def move(subspace: Subspace) -> None:
    """Away from theta_0, to the same coordinates in every call."""
    subspace.z.copy_(normal(subspace.z.numel()))
    if subspace.lam is not None:
        subspace.lam.copy_(1 + 0.1 * normal(subspace.m, 1))


def theta(subspace: Subspace) -> dict[str, Tensor]:
    """The current weights of a model with a subspace, by name."""
    sites = {param_slice.name: sites[0] for param_slice, sites in subspace.sites.items()}
    return {name: getattr(module, attribute) for name, (module, attribute) in sites.items()}


def batch(setup: Setup, device: str) -> Mapping[str, Tensor]:
    """Random tokens and labels, without padding."""
    generator = torch.Generator().manual_seed(0)
    shape = setup.size((8, 32), (2, 6))
    tokens = torch.randint(0, vocabulary(setup), shape, generator=generator)
    labels = torch.arange(shape[0]) % LABELS
    return {"input_ids": tokens.to(device), "labels": labels.to(device)}


def task(setup: Setup) -> TokenizedTask:
    """Random tokens, of which the first decides the class."""
    train, validation = _split(setup, setup.size(256, 8), 1), _split(setup, setup.size(64, 4), 2)
    return TokenizedTask(
        kind=Classification(("even", "odd")),
        metric="accuracy",
        train=train,
        train_eval_subset=train.subset(range(len(validation))),
        evaluation={"validation": validation},
        padding={"input_ids": 0},
        padding_side="right",
    )


def _split(setup: Setup, rows: int, seed: int) -> TokenizedSplit:
    generator = torch.Generator().manual_seed(seed)
    shortest, longest = setup.size((20, 64), (3, 8))
    lengths = torch.randint(shortest, longest + 1, (rows,), generator=generator)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    size = (int(offsets[-1]),)
    ids = torch.randint(1, vocabulary(setup), size, generator=generator, dtype=torch.int32)
    return TokenizedSplit({"input_ids": ids}, offsets, ids[offsets[:-1]].long() % LABELS)
