"""The fine-tuning methods that are compared, and the models they are compared on."""

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
from d90.errors import D90Error
from d90.models import loading
from d90.subspace import attach

VOCABULARY = 30_522
LABELS = 2
PARAMETERS = 1_000
"""d of the subspaces, and the length of UniLoRA's vector."""


@dataclass(frozen=True)
class Method:
    """A fine-tuning method.

    Attributes:
        prepare: prepares a model, possibly in place, and makes its optimizer.
        subspace: whether it is d90's, through the whole model.
    """

    prepare: Callable[[PreTrainedModel], tuple[nn.Module, Optimizer]]
    subspace: bool = False


def _full(model: PreTrainedModel, fused: bool | None) -> tuple[nn.Module, Optimizer]:
    return model, AdamW(model.parameters(), lr=1e-5, fused=fused)


def _subspace(model: PreTrainedModel, method: str, projection: str) -> tuple[nn.Module, Optimizer]:
    attach(model, d=PARAMETERS, method=method, projection=projection)
    return model, Adam(model.parameters(), lr=1e-4)


def _peft(model: PreTrainedModel, kind: str, **settings: Any) -> tuple[nn.Module, Optimizer]:
    adapted = _adapted(model, kind, **settings)
    return adapted, AdamW([p for p in adapted.parameters() if p.requires_grad], lr=1e-4)


def _lora_subspace(model: PreTrainedModel, rank: int) -> tuple[nn.Module, Optimizer]:
    adapted = _adapted(model, "LoraConfig", r=rank)
    attach(adapted, d=PARAMETERS)
    return adapted, Adam([p for p in adapted.parameters() if p.requires_grad], lr=1e-4)


def _adapted(model: PreTrainedModel, kind: str, **settings: Any) -> nn.Module:
    if find_spec("peft") is None:
        raise Skip("peft is not installed: `make bench` installs it")
    import peft  # pyright: ignore[reportMissingImports]

    if not hasattr(peft, kind):
        raise Skip(f"this version of peft has no {kind}")
    # As with PEFT's defaults: the head of a classifier is trained in full.
    task_type = "CAUSAL_LM" if is_causal(model) else "SEQ_CLS"
    return peft.get_peft_model(model, getattr(peft, kind)(task_type=task_type, **settings))


def is_causal(model: PreTrainedModel) -> bool:
    """Whether its labels are tokens, not a class for each example."""
    return type(model).__name__.endswith("ForCausalLM")


FULL = "full AdamW"

METHODS: dict[str, Method] = {
    FULL: Method(partial(_full, fused=None)),
    "full fused AdamW": Method(partial(_full, fused=True)),
    "PEFT LoRA, r = 8": Method(partial(_peft, kind="LoraConfig", r=8)),
    f"PEFT UniLoRA, {PARAMETERS:,} parameters": Method(
        partial(_peft, kind="UniLoraConfig", theta_d_length=PARAMETERS)
    ),
    **{
        f"d90 {method.upper()} {projection}, d = {PARAMETERS:,}": Method(
            partial(_subspace, method=method, projection=projection), subspace=True
        )
        for method, projection in (("did", "fastfood"), ("said", "fastfood"), ("did", "onehot"))
    },
    f"d90 in LoRA's factors, r = 8, d = {PARAMETERS:,}": Method(partial(_lora_subspace, rank=8)),
}


@dataclass(frozen=True)
class Workload:
    """A model and how it is trained.

    Attributes:
        load: loads the model.
        shape: examples and tokens of a batch.
        at_most: the target for a subspace step, in full AdamW steps.
        calls: consecutive steps of a method in one repetition.
        repetitions: after warm-up.
    """

    load: Callable[[], PreTrainedModel]
    shape: tuple[int, int]
    at_most: float
    calls: int
    repetitions: int


def _minilm() -> PreTrainedModel:
    return loading.load("minilm-l6", num_labels=LABELS)[0]


def _smollm2() -> PreTrainedModel:
    try:
        return loading.load("smollm2-135m", num_labels=None)[0]
    except D90Error as error:
        raise Skip(str(error)) from None


def bert(
    layers: int, width: int, heads: int, vocabulary: int = VOCABULARY, positions: int = 512
) -> PreTrainedModel:
    """A BERT with random weights, two labels and feed-forward layers of four times the width."""
    config = BertConfig(
        vocab_size=vocabulary,
        max_position_embeddings=positions,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * width,
    )
    return BertForSequenceClassification(config)


WORKLOADS: dict[str, Workload] = {
    "MiniLM-L6": Workload(_minilm, (32, 64), at_most=1.05, calls=1, repetitions=9),
    "BERT 2 x 128": Workload(
        partial(bert, layers=2, width=128, heads=2), (16, 64), at_most=1.3, calls=5, repetitions=15
    ),
    "SmolLM2-135M": Workload(_smollm2, (8, 64), at_most=1.05, calls=1, repetitions=5),
}
QUICK = Workload(partial(bert, 2, 16, 2), (2, 8), at_most=1.3, calls=1, repetitions=3)


class Trainer:
    """Trains a model with a method, on one batch that is the same for all methods.

    Args:
        method: how to fine-tune.
        model: what to fine-tune, on the device on which it is trained.
        shape: examples and tokens of the batch; no padding.
        autocast: whether to compute in bf16 by autocast.
    """

    def __init__(
        self,
        method: Method,
        model: PreTrainedModel,
        shape: tuple[int, int],
        *,
        autocast: bool = False,
    ) -> None:
        device = model.device
        self.batch = batch(shape, model.config.vocab_size, device, causal=is_causal(model))
        self.model, self.optimizer = method.prepare(model)
        self.model.train()
        self._autocast = partial(torch.autocast, device.type, torch.bfloat16, enabled=autocast)

    def step(self) -> None:
        """One optimizer step, with the dropout of the model's configuration."""
        with self._autocast():
            loss = self.model(**self.batch).loss
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


def batch(
    shape: tuple[int, int],
    vocabulary: int,
    device: str | torch.device = "cpu",
    *,
    causal: bool = False,
) -> dict[str, Tensor]:
    """Random tokens and labels, the same on every device; the tokens are the labels if `causal`."""
    generator = torch.Generator().manual_seed(0)
    tensors = {
        "input_ids": torch.randint(0, vocabulary, shape, generator=generator),
        "attention_mask": torch.ones(shape, dtype=torch.int64),
        "labels": torch.randint(0, LABELS, shape[:1], generator=generator),
    }
    if causal:
        tensors["labels"] = tensors["input_ids"]
    return {name: tensor.to(device) for name, tensor in tensors.items()}
