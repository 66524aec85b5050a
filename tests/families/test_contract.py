"""What a subspace promises, for every family of models: tiny, random, one table."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from scripts.families import FAMILIES, LAYERS, batch, tiny
from torch import Tensor, nn

from d90.subspace import Layout, Subspace, attach, detach

PAPER = {"Bert", "Roberta", "Bart", "Electra", "Albert", "XLNet", "T5", "XLMRoberta"}

_BLOCKS = {
    "Bert": ["bert.encoder.layer.{}"],
    "Roberta": ["roberta.encoder.layer.{}"],
    "XLMRoberta": ["roberta.encoder.layer.{}"],
    "Albert": ["albert.encoder.albert_layer_groups.{}"],
    "Electra": ["electra.encoder.layer.{}"],
    "XLNet": ["transformer.layer.{}"],
    "Bart": ["model.encoder.layers.{}", "model.decoder.layers.{}"],
    "T5": ["transformer.encoder.block.{}", "transformer.decoder.block.{}"],
    "GPT2": ["transformer.h.{}"],
    "Llama": ["model.layers.{}"],
    "SmolLM2": ["model.layers.{}"],
}
_LAST_NORMS = {
    "T5": {"transformer.encoder", "transformer.decoder"},
    "GPT2": {"transformer.ln_f"},
    "Llama": {"model.norm"},
    "SmolLM2": {"model.norm"},
}
# In the classifier: the token table under the names of both stacks.
_TIES = {"Bart": 2, "T5": 2}
# In the pretrained model: the token table as the output layer too, with its bias under two names.
_PRETRAINING_TIES = {
    "Bert": 2,
    "Roberta": 2,
    "XLMRoberta": 2,
    "Albert": 2,
    "XLNet": 1,
    "Bart": 3,
    "T5": 3,
    "GPT2": 1,
    "SmolLM2": 1,
}
# Norms and softmax that are computed in float32 whatever the weights are.
_SINGLE = {"T5", "Llama", "SmolLM2"}

every_family = pytest.mark.parametrize("family", FAMILIES)
every_method = pytest.mark.parametrize("method", ["did", "said"])


def test_the_sweep_is_complete() -> None:
    assert set(_BLOCKS) == set(FAMILIES)
    assert set(FAMILIES) >= PAPER | {"GPT2", "Llama", "SmolLM2"}
    for table in (_LAST_NORMS, _TIES, _PRETRAINING_TIES, _SINGLE):
        assert set(table) <= set(FAMILIES)


def distinct_weights(model: nn.Module) -> int:
    """Weights by where they are in memory, whatever they are called."""
    everywhere = chain.from_iterable(m._parameters.values() for m in model.modules())
    return sum({p.data_ptr(): p.numel() for p in everywhere if p is not None}.values())


def bits(tensor: Tensor) -> bytes:
    return tensor.detach().contiguous().view(torch.uint8).numpy().tobytes()


def theta(model: nn.Module, subspace: Subspace) -> dict[str, Tensor]:
    """Every weight of a model, under all its names."""
    names = [name for slot in subspace.layout.slices for name in (slot.name, *slot.aliases)]
    found = {}
    for name in names:
        owner, _, attribute = name.rpartition(".")
        found[name] = getattr(model.get_submodule(owner), attribute)
    return found


def move(subspace: Subspace) -> None:
    with torch.no_grad():
        for vector in subspace.parameters():
            vector.add_(torch.linspace(-0.2, 0.3, len(vector)))


def check_theta(model: nn.Module, method: str) -> Layout:
    """Check that the subspace of a model has all its weights, starts at them and moves them all."""
    D = distinct_weights(model)
    theta_0 = {name: p.detach().clone() for name, p in model.named_parameters()}
    subspace = attach(model, d=40, method=method, scale="rms")
    layout = subspace.layout
    assert D == layout.D == sum(tensor.numel() for tensor in theta_0.values())
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 40
    # With a graph, so that it is computed: without one, theta at the start is theta_0 itself.
    subspace.materialize()
    start = theta(model, subspace)
    assert all(tensor.grad_fn is not None for tensor in start.values())
    assert all(bits(start[name]) == bits(tensor) for name, tensor in theta_0.items())
    move(subspace)
    subspace.materialize()
    moved = theta(model, subspace)
    assert all(bool((moved[name] != tensor).all()) for name, tensor in theta_0.items())
    assert all(moved[s.name] is moved[alias] for s in layout.slices for alias in s.aliases)
    return layout


@every_method
@every_family
def test_theta_0_ties_and_groups(family: str, method: str) -> None:
    layout = check_theta(tiny(family), method)
    assert layout.ties == _TIES.get(family, 0)
    depth = 1 if family == "Albert" else LAYERS
    blocks = {path.format(i) for path in _BLOCKS[family] for i in range(depth)}
    expected = blocks | {"embeddings", "head"} | _LAST_NORMS.get(family, set())
    assert sorted(group.name for group in layout.groups) == sorted(expected)


@every_family
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


@every_method
@every_family
def test_d_numbers_on_disk_are_the_fine_tuned_model(
    family: str, method: str, tmp_path: Path
) -> None:
    model, inputs = tiny(family), batch()
    before = model(**inputs).logits
    move(attach(model, d=40, method=method, seed=3))
    expected = model(**inputs).logits
    assert not torch.equal(expected, before)
    save_file(model.state_dict(), tmp_path / "numbers.safetensors")
    numbers = load_file(tmp_path / "numbers.safetensors")
    assert sum(vector.numel() for vector in numbers.values()) == 40
    fresh = tiny(family)
    attach(fresh, d=40, method=method, seed=3)
    fresh.load_state_dict(numbers)
    assert bits(fresh(**inputs).logits) == bits(expected)


def check_gradient(family: str, model: nn.Module, loss: Callable[[], Tensor]) -> None:
    """Check the gradients of z and lam of a model in float64 against finite differences."""
    subspace = attach(model, d=25, method="said")
    move(subspace)
    loss().backward()
    step, tolerance = (2e-3, 1e-3) if family in _SINGLE else (1e-4, 1e-6)
    for vector in subspace.parameters():
        assert vector.grad is not None
        direction = vector.grad / vector.grad.norm()
        losses = []
        for move_by in (step, -2 * step):
            with torch.no_grad():
                vector.add_(move_by * direction)
                losses.append(loss().item())
        with torch.no_grad():
            vector.add_(step * direction)
        slope = (losses[0] - losses[1]) / (2 * step)
        assert slope == pytest.approx(float(vector.grad.norm()), rel=tolerance)


@every_family
def test_gradient_against_finite_differences(family: str) -> None:
    model, inputs = tiny(family).double(), batch()
    check_gradient(family, model, lambda: model(**inputs).loss)


@every_family
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


@every_family
def test_the_pretraining_model_keeps_its_ties(family: str) -> None:
    model = tiny(family, head=FAMILIES[family].pretraining)
    D = distinct_weights(model)
    subspace = attach(model, d=40)
    assert subspace.layout.D == D
    assert subspace.layout.ties == _PRETRAINING_TIES.get(family, 0)
    move(subspace)
    subspace.materialize()
    moved = theta(model, subspace)
    for slot in subspace.layout.slices:
        assert all(moved[slot.name] is moved[alias] for alias in slot.aliases)
        assert not isinstance(moved[slot.name], nn.Parameter)
    detach(model)
    assert distinct_weights(model) == D
