"""A head of one number, for every family."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from scripts.families import FAMILIES
from tests.families.test_adapters import assert_same, made, weights
from torch import Tensor

import d90
from d90.adapters import TaskInfo, new_adapter
from d90.models import loading
from d90.subspace import attach
from d90.tasks import Split, Task, kind_of
from d90.training.data import TokenizedTask, tokenize

CPU = torch.device("cpu")
OPTIONS = {"mean": "2.5", "std": "1.25"}

every_family = pytest.mark.parametrize("family", FAMILIES)


def task() -> Task:
    texts = [("bad",), ("good bad",), ("good words then more bad",), ("words more",)]
    split = Split(texts, [0.5, 4.75, 2.25, 3.5])
    return Task(
        "tiny", ("text",), (), "pearson", split, {"validation": split}, "regression", OPTIONS
    )


def batch(data: TokenizedTask, rows: list[int]) -> tuple[dict[str, Tensor], Tensor]:
    return data.kind.collate(data, data.train, rows, CPU)


@every_family
def test_numbers_do_not_depend_on_padding(family: str, folders: Callable[[str], Path]) -> None:
    model, tokenizer = loading.load(str(folders(family)), **kind_of(task()).model_options)
    assert (model.config.num_labels, model.config.problem_type) == (1, "regression")
    data = tokenize(task(), tokenizer, max_length=30)
    with torch.no_grad():
        inputs, labels = batch(data, [0, 1, 2, 3])
        together = data.kind.predict(model, inputs, labels).values
        alone = torch.cat([data.kind.predict(model, *batch(data, [i])).values for i in range(4)])
    assert together.shape == (4,) and len(set(together.tolist())) == 4
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@every_family
def test_training_in_a_subspace_lowers_the_loss(
    family: str, folders: Callable[[str], Path]
) -> None:
    model, tokenizer = loading.load(str(folders(family)), **kind_of(task()).model_options)
    data = tokenize(task(), tokenizer, max_length=30)
    attach(model, d=40, projection="onehot")
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.02)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = data.kind.loss(model, *batch(data, [0, 1, 2, 3]))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert min(losses) < 0.95 * losses[0]


@every_family
def test_an_adapter_loads_and_switches_to_a_classifier(
    family: str, folders: Callable[[str], Path]
) -> None:
    folder = folders(family)
    classifier, two = made(folder, 2, 0)
    numbers, theta = made(folder, 1, 7)
    info = TaskInfo("tiny", ("text",), (), 30, "pearson", 0.5, "regression", OPTIONS)
    file = new_adapter(numbers.parameters, numbers.subspace, numbers.base, info, m=numbers.m)
    model = d90.load(str(folder), file)
    assert_same(weights(model), theta)
    assert (model.config.num_labels, model.config.problem_type) == (1, "regression")
    assert_same(weights(model.switch(classifier)), two)
    assert (model.config.num_labels, model.config.problem_type) == (2, None)
    assert_same(weights(model.switch(file)), theta)
    assert (model.config.num_labels, model.config.problem_type) == (1, "regression")
