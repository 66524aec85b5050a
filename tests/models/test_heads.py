"""A head is a function of its seed and of the names of its parameters alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from d90.models import loading
from d90.models.heads import initialize


def head_of(model: torch.nn.Module) -> torch.Tensor:
    return model.get_parameter("classifier.weight")


def test_head_is_a_function_of_its_seed_alone(tiny_folder: Path):
    heads = {}
    for head_seed, noise in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(noise)
        model, _ = loading.load(str(tiny_folder), num_labels=64, head_seed=head_seed)
        heads[head_seed, noise] = head_of(model)
        assert torch.equal(model.get_parameter("classifier.bias"), torch.zeros(64))
    assert torch.equal(heads[0, 1], heads[0, 2])
    assert not torch.equal(heads[0, 1], heads[1, 1])
    assert heads[0, 1].std().item() == pytest.approx(0.1, rel=0.1)  # initializer_range


def test_head_does_not_depend_on_what_else_is_missing(tiny_folder: Path):
    model, _ = loading.load(str(tiny_folder), num_labels=2)
    head = head_of(model).clone()
    with torch.no_grad():
        head_of(model).fill_(7.0)
    initialize(model, {"classifier.weight", "bert.pooler.dense.weight"}, seed=0)
    assert torch.equal(head_of(model), head)


def test_norms_keep_their_ones(tiny_folder: Path):
    model, _ = loading.load(str(tiny_folder), num_labels=2)
    name = "bert.embeddings.LayerNorm.weight"
    initialize(model, {name}, seed=0)
    assert torch.equal(model.get_parameter(name), torch.ones(16))
