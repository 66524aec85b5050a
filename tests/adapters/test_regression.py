"""Adapters of regression: the file, predictions on the labels' scale, a plain checkpoint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.helpers import tiny
from tests.helpers.tuned import tuned
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import d90
from d90.adapters import Adapter, from_bytes
from d90.adapters.adapter import _metadata
from d90.adapters.arithmetic import combine
from d90.adapters.merge import merge
from d90.adapters.predict import evaluate, predict, predict_outputs
from d90.errors import D90Error
from d90.tasks import Task


@pytest.fixture(scope="module")
def scores_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tasks") / "scores"
    tiny.write_task(tiny.toy_regression(), folder)
    return folder


@pytest.fixture(scope="module")
def file(ready_folder: Path, scores_folder: Path) -> Adapter:
    return tuned(ready_folder, scores_folder, rate=0.03, metric="r2")


@pytest.fixture
def task(scores_folder: Path) -> Task:
    return d90.load_task(scores_folder, metric="r2")


def test_the_file_has_the_scale_of_the_labels(file: Adapter, task: Task) -> None:
    again = from_bytes(file.to_bytes())
    assert replace(again.task, metric_value=file.task.metric_value) == file.task
    assert (file.task.kind, file.task.labels) == ("regression", ())
    assert file.task.options == task.options == {"mean": "2.382812", "std": "1.62778"}
    metadata = _metadata(file)
    assert metadata["kind"] == "regression mean=2.382812 std=1.62778"
    assert "labels" not in metadata


def test_evaluation_is_that_of_training(ready_folder: Path, file: Adapter, task: Task) -> None:
    model = d90.load(str(ready_folder), file)
    found = evaluate(model, task)["validation"]
    assert found.metrics["r2"] == pytest.approx(file.task.metric_value, abs=1e-6)
    assert (found.rows, found.majority) == (64, 0.0)
    assert set(found.metrics) == {"pearson", "spearman", "r2"}
    # The adapter's scale, whatever the training split of this task would give.
    other = replace(task, options={"mean": "0", "std": "9"})
    assert evaluate(model, other)["validation"] == found
    split = task.evaluation["validation"]
    values = np.array(predict(model, split))
    errors = (values - np.array(split.labels)) ** 2
    assert found.metrics["r2"] == pytest.approx(1 - errors.mean() / np.var(split.labels))


def test_a_plain_checkpoint_has_the_scale(
    ready_folder: Path, file: Adapter, tmp_path: Path
) -> None:
    file.save(tmp_path / "a.st")
    merge(tmp_path / "a.st", tmp_path / "merged", base=str(ready_folder))
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    assert plain.config.problem_type == "regression"
    with torch.no_grad():
        logits = plain(**tokenizer("good word1", return_tensors="pt")).logits.double()
    number = logits * plain.config.label_std + plain.config.label_mean
    expected = predict_outputs(d90.load(str(ready_folder), file), [("good word1",)])
    assert expected.shape == (1, 1)
    np.testing.assert_allclose(number.numpy(), expected, rtol=1e-5)


def test_another_kind_is_refused(
    ready_folder: Path, toy_folder: Path, file: Adapter, task: Task
) -> None:
    model = d90.load(str(ready_folder), file)
    with pytest.raises(D90Error, match=r"the adapter is of regression and .* of classification"):
        evaluate(model, d90.load_task(toy_folder))
    other = replace(file, task=replace(file.task, options={"mean": "1", "std": "2"}))
    with pytest.raises(D90Error, match="of another kind, or of another scale"):
        combine([file, other])
    assert combine([file, file]).task.options == file.task.options


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"options": {"mean": "1", "std": "0"}}, "expected mean and std"),
        ({"options": {}}, "expected mean and std"),
        ({"kind": "regresion"}, "unknown task_kind 'regresion'"),
    ],
)
def test_a_file_that_no_version_wrote(
    ready_folder: Path, file: Adapter, change: dict[str, object], expected: str
) -> None:
    odd = from_bytes(replace(file, task=replace(file.task, **change)).to_bytes())
    with pytest.raises(D90Error, match=f"the adapter for 'scores': .*{expected}"):
        d90.load(str(ready_folder), odd)


def test_damaged_options() -> None:
    info = "its metadata are damaged"
    good = tiny_bytes()
    with pytest.raises(D90Error, match=info):
        from_bytes(good)


def tiny_bytes() -> bytes:
    """A file whose option has no value."""
    from d90.adapters.container import Content, pack

    values = {
        "d90": "1", "random": "philox-v1", "space": "onehot tensor did layer 1 10 0 0 0",
        "base": "b  " + "A" * 43, "task": "t text", "kind": "regression mean",
        "metric": "r2 0.5000 16", "code": "float32",
    }  # fmt: skip
    return pack(Content(values, "F32", b"\0" * 4))
