"""Adapters of every family: the weights of the trained model, and another head."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scripts.families import FAMILIES

import d90
from d90.adapters import Adapter, BaseModelInfo, TaskInfo, new_adapter
from d90.adapters.fingerprint import fingerprint
from d90.models import loading
from d90.subspace import attach


def made(
    folder: Path, classes: int | None, head_seed: int
) -> tuple[Adapter, dict[str, torch.Tensor]]:
    """A file of a family's tiny model, and the weights that it means; of generation if None."""
    model, _ = loading.load(str(folder), num_labels=classes, head_seed=head_seed)
    weights = fingerprint(model)
    subspace = attach(model, d=60, method="said", projection="onehot", seed=5)
    numbers = np.random.default_rng(classes or 0).normal(0, 0.1, 60).astype(np.float32)
    numbers[60 - subspace.m :] += 1
    labels = tuple(f"class {number}" for number in range(classes or 0))
    base = BaseModelInfo(str(folder), "", weights, subspace.layout.D, head_seed)
    kind = "generation" if classes is None else "classification"
    task = TaskInfo("tiny", ("text",), labels, 30, "accuracy", 0.5, kind)
    file = new_adapter(numbers, subspace.config, base, task, m=subspace.m)
    with torch.no_grad():
        subspace.z.copy_(torch.from_numpy(file.z))
        assert subspace.lam is not None
        subspace.lam.copy_(torch.from_numpy(file.lam))
        subspace.materialize()
    theta = {
        name: getattr(*subspace.sites[slot][0]).clone()
        for slot in subspace.layout.slices
        for name in (slot.name, *slot.aliases)
    }
    return file, theta


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return dict(model.named_parameters(remove_duplicate=False))


@pytest.mark.parametrize("family", FAMILIES)
def test_load_and_switch(family: str, folders: Callable[[str], Path]) -> None:
    folder = folders(family)
    first, theta = made(folder, 2, 0)
    model = d90.load(str(folder), first)
    assert_same(weights(model), theta)
    second, other = made(folder, 3, 7)
    assert_same(weights(model.switch(second)), other)
    assert model.num_labels == 3
    assert_same(weights(model.switch(first)), theta)
    base, _ = loading.load(str(folder), num_labels=2)
    assert_same(weights(model.switch(None)), weights(base))


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name
