"""Transformer families, as tiny random models from their configurations."""

from __future__ import annotations

import pytest
import torch
from scripts.families import FAMILIES, LAYERS, batch, examine, tiny
from torch import nn
from transformers import BertConfig, BertForMaskedLM

from d90.subspace import attach, detach

_BLOCKS = {
    "Bert": ["bert.encoder.layer.{}"],
    "Roberta": ["roberta.encoder.layer.{}"],
    "Albert": ["albert.encoder.albert_layer_groups.{}"],
    "Electra": ["electra.encoder.layer.{}"],
    "Bart": ["model.encoder.layers.{}", "model.decoder.layers.{}"],
    "T5": ["transformer.encoder.block.{}", "transformer.decoder.block.{}"],
    "GPT2": ["transformer.h.{}"],
    "XLNet": ["transformer.layer.{}"],
    "Llama": ["model.layers.{}"],
}
_LAST_NORMS = {
    "T5": {"transformer.encoder", "transformer.decoder"},
    "GPT2": {"transformer.ln_f"},
    "Llama": {"model.norm"},
}
_TIES = {"Bart": 2, "T5": 2}


def test_the_sweep_is_complete() -> None:
    assert set(_BLOCKS) == set(FAMILIES)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", ["did", "said"])
def test_family(family: str, method: str) -> None:
    model = tiny(family)
    D = sum(p.numel() for p in model.parameters())
    outcome = examine(model, d=40, method=method)
    depth = 1 if family == "Albert" else LAYERS
    blocks = {path.format(i) for path in _BLOCKS[family] for i in range(depth)}
    assert outcome.trained == 40
    assert outcome.difference == 0
    assert outcome.D == D
    assert outcome.ties == _TIES.get(family, 0)
    assert outcome.moved == 1
    expected = blocks | {"embeddings", "head"} | _LAST_NORMS.get(family, set())
    assert set(outcome.groups) == expected
    assert len(outcome.groups) == len(expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_first_loss_is_the_base_models_and_training_lowers_it(family: str) -> None:
    model, inputs = tiny(family), batch()
    inputs["labels"].zero_()
    before = model(**inputs).logits
    subspace = attach(model, d=40, method="said", projection="onehot")
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    outputs = model(**inputs)
    assert torch.equal(outputs.logits, before)
    first = outputs.loss.item()
    for _ in range(8):
        optimizer.zero_grad()
        model(**inputs).loss.backward()
        optimizer.step()
    assert model(**inputs).loss.item() < 0.95 * first
    for vector, start in zip(subspace.parameters(), (0, 1), strict=True):
        assert bool((vector != start).all())
    detach(model)
    assert torch.equal(model(**inputs).logits, before)


@pytest.mark.parametrize("family", FAMILIES)
def test_bfloat16_base(family: str) -> None:
    model, inputs = tiny(family).to(torch.bfloat16), batch()
    subspace = attach(model, d=40)
    assert subspace.z.dtype == torch.float32
    with torch.no_grad():
        subspace.z.normal_(std=0.01)
    model(**inputs).loss.backward()
    assert subspace.z.grad is not None
    assert subspace.z.grad.dtype == torch.float32
    assert bool(subspace.z.grad.isfinite().all())


def test_gradient_against_finite_differences_in_a_transformer() -> None:
    model, inputs = tiny("Bart").double(), batch()
    subspace = attach(model, d=25, method="said")
    with torch.no_grad():
        for vector in subspace.parameters():
            vector.add_(torch.linspace(0.1, 0.2, len(vector)))
    model(**inputs).loss.backward()
    for vector in subspace.parameters():
        assert vector.grad is not None
        direction = torch.linspace(-1, 1, len(vector), dtype=torch.float64)
        losses = []
        for step in (1e-5, -2e-5):
            with torch.no_grad():
                vector.add_(step * direction)
                losses.append(model(**inputs).loss)
        with torch.no_grad():
            vector.add_(1e-5 * direction)
        torch.testing.assert_close(
            vector.grad @ direction, (losses[0] - losses[1]) / 2e-5, rtol=1e-6, atol=1e-10
        )


def test_a_language_model_with_a_tied_head() -> None:
    config = BertConfig(vocab_size=20, hidden_size=8, num_attention_heads=2, num_hidden_layers=1)
    model = BertForMaskedLM(config)
    D = sum(p.numel() for p in model.parameters())
    subspace = attach(model, d=20)
    assert subspace.layout.D == D
    assert subspace.layout.ties == 2
    table, decoder = model.get_input_embeddings(), model.get_output_embeddings()
    with torch.no_grad():
        subspace.z.normal_()
    model(torch.arange(6)[None])
    assert isinstance(table, nn.Embedding)
    assert table.weight is decoder.weight
    assert not isinstance(table.weight, nn.Parameter)
    detach(model)
    assert isinstance(table.weight, nn.Parameter)
    assert table.weight is decoder.weight
