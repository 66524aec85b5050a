"""The ways of fine-tuning that are compared, and the models that they are compared on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam, AdamW, Optimizer
from transformers import BertConfig, BertForSequenceClassification, PreTrainedModel

from benchmarks.cases import Skip
from d90.models import loading
from d90.subspace import attach

VOCABULARY = 30_522
LABELS = 2
TRAINED = 1_000
"""d of the subspaces, and the length of UniLoRA's vector."""


@dataclass(frozen=True)
class Contestant:
    """A way of fine-tuning.

    Attributes:
        prepare: makes a model ready, maybe in place, and its optimizer.
        subspace: whether it is d90's.
    """

    prepare: Callable[[PreTrainedModel], tuple[nn.Module, Optimizer]]
    subspace: bool = False


def _full(model: PreTrainedModel, fused: bool | None) -> tuple[nn.Module, Optimizer]:
    return model, AdamW(model.parameters(), lr=1e-5, fused=fused)


def _subspace(model: PreTrainedModel, method: str, projection: str) -> tuple[nn.Module, Optimizer]:
    attach(model, d=TRAINED, method=method, projection=projection)
    return model, Adam(model.parameters(), lr=1e-4)


def _adapters(model: PreTrainedModel, kind: str, **settings: Any) -> tuple[nn.Module, Optimizer]:
    if find_spec("peft") is None:
        raise Skip("peft is not installed: `make bench` installs it")
    import peft  # pyright: ignore[reportMissingImports]

    if not hasattr(peft, kind):
        raise Skip(f"this version of peft has no {kind}")
    # As its users have it: the head is trained in full.
    config = getattr(peft, kind)(task_type="SEQ_CLS", **settings)
    adapted = peft.get_peft_model(model, config)
    return adapted, AdamW([p for p in adapted.parameters() if p.requires_grad], lr=1e-4)


FULL = "full AdamW"

CONTESTANTS: dict[str, Contestant] = {
    FULL: Contestant(partial(_full, fused=None)),
    "full fused AdamW": Contestant(partial(_full, fused=True)),
    "PEFT LoRA, r = 8": Contestant(partial(_adapters, kind="LoraConfig", r=8)),
    f"PEFT UniLoRA, {TRAINED:,} numbers": Contestant(
        partial(_adapters, kind="UniLoraConfig", theta_d_length=TRAINED)
    ),
    **{
        f"d90 {method.upper()} {projection}, d = {TRAINED:,}": Contestant(
            partial(_subspace, method=method, projection=projection), subspace=True
        )
        for method, projection in (("did", "fastfood"), ("said", "fastfood"), ("did", "onehot"))
    },
}


@dataclass(frozen=True)
class Setting:
    """A model, and how it is trained.

    Attributes:
        load: makes it.
        shape: of a batch: texts and tokens.
        at_most: the bar: what a subspace step may cost, in full AdamW steps.
        calls: steps that a contestant makes in its turn.
        repetitions: turns that count.
    """

    load: Callable[[], PreTrainedModel]
    shape: tuple[int, int]
    at_most: float
    calls: int
    repetitions: int


def _minilm() -> PreTrainedModel:
    return loading.load("minilm-l6", num_labels=LABELS)[0]


def bert(layers: int, width: int, heads: int) -> PreTrainedModel:
    """A BERT with random weights, four times as wide in its inner layers; it has two labels."""
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * width,
    )
    return BertForSequenceClassification(config)


SETTINGS: dict[str, Setting] = {
    "MiniLM-L6": Setting(_minilm, (32, 64), at_most=1.05, calls=1, repetitions=9),
    "BERT 2 x 128": Setting(
        partial(bert, layers=2, width=128, heads=2), (16, 64), at_most=1.3, calls=5, repetitions=15
    ),
}
QUICK = Setting(partial(bert, 2, 16, 2), (2, 8), at_most=1.3, calls=1, repetitions=3)


class Trainer:
    """A contestant at work on one batch, the same for all.

    Args:
        contestant: how to fine-tune.
        model: what.
        shape: of the batch: texts and tokens, none of them padding.
    """

    def __init__(
        self, contestant: Contestant, model: PreTrainedModel, shape: tuple[int, int]
    ) -> None:
        self.model, self.optimizer = contestant.prepare(model)
        self.model.train()
        self.batch = batch(shape)

    def step(self) -> None:
        """A training step, with the model's own dropout."""
        self.model(**self.batch).loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


def batch(shape: tuple[int, int]) -> dict[str, Tensor]:
    """Random tokens and labels."""
    generator = torch.Generator().manual_seed(0)
    return {
        "input_ids": torch.randint(0, VOCABULARY, shape, generator=generator),
        "attention_mask": torch.ones(shape, dtype=torch.int64),
        "labels": torch.randint(0, LABELS, shape[:1], generator=generator),
    }
