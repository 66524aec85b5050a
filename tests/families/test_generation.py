"""What a subspace promises under the head of a language model, for every family that has one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from scripts.families import FAMILIES, LAYERS, tiny
from tests.families.conftest import pretrained
from tests.families.test_adapters import assert_same, made, weights
from tests.families.test_contract import (
    _BLOCKS,
    _LAST_NORMS,
    _PRETRAINING_TIES,
    bits,
    check_gradient,
    check_theta,
    every_family,
    every_method,
)
from tests.helpers.tiny_tokenizers import TOKENIZERS
from torch import Tensor
from transformers import PreTrainedModel

import d90
from d90.adapters.generate import prompt_ids
from d90.errors import D90Error
from d90.models import loading
from d90.subspace import attach, detach
from d90.tasks import Split, Task
from d90.tasks.kinds import Generation
from d90.training.data import TokenizedTask, tokenize

CPU = torch.device("cpu")
ENCODER_DECODERS = {"Bart", "T5"}
GENERATIVE = {"GPT2", "Llama", "SmolLM2", *ENCODER_DECODERS}
# Positions are counted from the left, whatever is padding: the loader pads it on the right.
_RIGHT_ONLY = ("Bart", "left")
_OPTIONS = Generation().model_options

generative = pytest.mark.parametrize("family", sorted(GENERATIVE))

Folders = Callable[[str], Path]


@every_family
def test_a_family_generates_or_is_refused(family: str, folders: Folders) -> None:
    if family not in GENERATIVE:
        with pytest.raises(D90Error, match=r"is an encoder .* which generates no text"):
            loading.load(str(folders(family)), **_OPTIONS)
        return
    model, tokenizer = loading.load(str(folders(family)), **_OPTIONS)
    # No head is new: the checkpoint's own class, and its weights.
    assert type(model).__name__ == f"{FAMILIES[family].kind}{FAMILIES[family].pretraining}"
    for name, tensor in pretrained(family).state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name
    assert model.config.is_encoder_decoder == (family in ENCODER_DECODERS)
    assert tokenizer.padding_side == ("right" if family in ENCODER_DECODERS else "left")


def tokenized(family: str) -> TokenizedTask:
    """Prompts and completions of several lengths, one of each empty or a single word."""
    texts = [("bad good",), ("",), ("good words",), ("then",)]
    split = Split(texts, ["good", "words more", "bad", "good then bad"])
    task = Task(
        "tiny", ("prompt",), (), "token_accuracy", split, {"validation": split}, "generation"
    )
    tokenizer = TOKENIZERS[family]()
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    tokenizer.padding_side = "right" if family in ENCODER_DECODERS else "left"
    kind = Generation(is_encoder_decoder=family in ENCODER_DECODERS)
    return tokenize(task, tokenizer, kind=kind, max_length=30)


def loss(model: PreTrainedModel, data: TokenizedTask, rows: Sequence[int] = range(4)) -> Tensor:
    return data.kind.loss(model, *data.kind.collate(data, data.train, rows, CPU))


@generative
def test_an_adapter_loads_and_generates_with_a_cache(family: str, folders: Folders) -> None:
    folder = folders(family)
    file, theta = made(folder, None, 0)
    model: Any = d90.load(str(folder), file)
    assert_same(weights(model), theta)
    ids = prompt_ids(model, "good words")
    options = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 6, "eos_token_id": []}
    tokens = model.generate(ids, **options)
    assert tokens.shape[1] == 6 + (1 if model.config.is_encoder_decoder else ids.shape[1])
    assert torch.equal(tokens, model.generate(ids, **options, use_cache=False))
    base, _ = loading.load(str(folder), **_OPTIONS)
    assert_same(weights(model.switch(None)), weights(base))


@every_method
@generative
def test_theta_0_ties_and_groups(family: str, method: str) -> None:
    layout = check_theta(pretrained(family), method)
    assert layout.ties == _PRETRAINING_TIES.get(family, 0)
    # Names as of the classifier, but for T5's, whose body is the model itself.
    prefix = "transformer." if family == "T5" else ""
    others = {path.removeprefix(prefix) for path in _LAST_NORMS.get(family, set())}
    blocks = {
        path.format(i).removeprefix(prefix) for path in _BLOCKS[family] for i in range(LAYERS)
    }
    # A tied output layer is the embedding.
    head = set() if layout.ties else {"head"}
    assert {group.name for group in layout.groups} == blocks | others | head | {"embeddings"}


@generative
def test_the_first_loss_is_the_base_models_and_training_lowers_it(family: str) -> None:
    model, data = pretrained(family), tokenized(family)
    before = loss(model, data).item()
    attach(model, d=40, method="said", projection="onehot")
    assert loss(model, data).item() == before
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(8):
        optimizer.zero_grad()
        loss(model, data).backward()
        optimizer.step()
    assert loss(model, data).item() < 0.95 * before
    detach(model)
    assert loss(model, data).item() == before
    assert all(bits(p) == bits(q) for p, q in zip(
        model.parameters(), pretrained(family).parameters(), strict=True
    ))  # fmt: skip


@generative
def test_gradient_against_finite_differences(family: str) -> None:
    # Not `pretrained`, whose large weights bend the loss.
    model = tiny(family, head=FAMILIES[family].pretraining, vocab_size=300)
    assert isinstance(model, PreTrainedModel)
    data = tokenized(family)
    check_gradient(family, model.double(), lambda: loss(model, data))


@pytest.mark.parametrize(
    ("family", "side"),
    [(f, s) for f in sorted(GENERATIVE) for s in ("left", "right") if (f, s) != _RIGHT_ONLY],
)
def test_neither_padding_nor_batches_change_a_score(family: str, side: str) -> None:
    model, data = pretrained(family), replace(tokenized(family), padding_side=side)
    counts, rows = data.train.labels, range(4)
    assert len({*counts.tolist()}) > 2 and len({*(data.train.lengths - counts).tolist()}) > 2

    def predict(*rows: int) -> tuple[Tensor, Tensor]:
        inputs, labels = data.kind.collate(data, data.train, rows, CPU)
        with torch.no_grad():
            found = data.kind.predict(model, inputs, labels)
        return found.values, found.losses

    values, together = predict(*rows)
    alone = [predict(row) for row in rows]
    assert values.tolist() == [int(found) for found, _ in alone]
    torch.testing.assert_close(together, sum(losses for _, losses in alone), rtol=1e-5, atol=0)
    pairs = [predict(3, 0), predict(2, 1)]
    assert torch.cat([found for found, _ in pairs])[[1, 3, 2, 0]].tolist() == values.tolist()
    torch.testing.assert_close(together, pairs[0][1] + pairs[1][1], rtol=1e-5, atol=0)
    torch.testing.assert_close(loss(model, data).detach(), together[0])
    # So that the comparison says something: the examples are told apart.
    assert len({round(float(losses), 3) for _, losses in alone}) == 4
