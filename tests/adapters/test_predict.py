"""Predictions: the same as the model's own, whatever the batch; bad input is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.helpers.tuned import tuned

import d90
from d90.adapters.model import AdapterModel
from d90.adapters.predict import evaluate, predict, predict_outputs
from d90.errors import D90Error
from d90.tasks import Task


@pytest.fixture(scope="module")
def model(ready_folder: Path, toy_folder: Path) -> AdapterModel:
    return d90.load(str(ready_folder), tuned(ready_folder, toy_folder))


@pytest.fixture
def task(toy_folder: Path) -> Task:
    return d90.load_task(toy_folder)


def test_probabilities_are_those_of_the_model(model: AdapterModel, task: Task) -> None:
    texts = task.evaluation["validation"].texts[:9]
    seen: list[tuple[int, int]] = []
    found = predict_outputs(model, texts, batch_size=4, on_rows=lambda *rows: seen.append(rows))
    assert [count for _, count in seen] == [9, 9, 9] and seen[-1] == (9, 9)
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-12)
    for row, (text,) in zip(found, texts, strict=True):
        inputs = model.tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            logits = model(**inputs).logits[0].double()
        np.testing.assert_allclose(row, logits.softmax(-1).numpy(), rtol=1e-5)


def test_scores(model: AdapterModel, task: Task) -> None:
    split = task.evaluation["validation"]
    found = evaluate(model, task)["validation"]
    right = np.mean(np.array(predict(model, split)) == np.array(split.labels))
    assert found.metrics["accuracy"] == pytest.approx(right)
    assert model.adapter is not None
    assert found.metrics["accuracy"] == pytest.approx(model.adapter.task.metric_value)
    assert (found.rows, set(found.metrics)) == (64, {"accuracy", "f1", "macro_f1"})
    assert found.majority == pytest.approx(split.majority)


def test_what_cannot_be_labelled(model: AdapterModel, task: Task) -> None:
    with pytest.raises(D90Error, match=r"row 2 has 2 texts: the task '.*' has text"):
        predict_outputs(model, [("good",), ("good", "bad")])
    with pytest.raises(
        D90Error, match=r"the adapter's classes are 0, 1 and those of .* are bad, good"
    ):
        evaluate(model, replace(task, labels=("bad", "good")))
    base = d90.load(model.base.name, model.adapter).switch(None)  # type: ignore[arg-type]
    with pytest.raises(D90Error, match=r"call model.switch\(adapter\) first"):
        predict_outputs(base, [("good",)])
