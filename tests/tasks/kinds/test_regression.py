"""Regression: metrics by hand, the labels that are numbers, and what is none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import r2_score

from d90.errors import D90Error
from d90.tasks import Task, load_task
from d90.tasks.kinds import Regression, kind_of
from d90.tasks.kinds.regression import pearson, r2, spearman

X = [1.0, 2.0, 3.0, 4.0, 4.0, 0.5]
Y = [1.5, 1.0, 3.5, 9.0, 2.0, -1.0]


def folder(path: Path, train: list[Any], validation: list[Any], ending: str = ".jsonl") -> Path:
    for name, labels in (("train", train), ("validation", validation)):
        rows = [{"text": f"text {i}", "label": label} for i, label in enumerate(labels)]
        lines = [json.dumps(row) for row in rows]
        if ending == ".csv":
            lines = ["text,label", *(f"{row['text']},{row['label']}" for row in rows)]
        (path / f"{name}{ending}").write_text("\n".join(lines) + "\n")
    return path


def message(path: Path, **options: Any) -> str:
    with pytest.raises(D90Error) as raised:
        load_task(path, **options)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_metrics_are_those_of_the_libraries() -> None:
    assert pearson(X, Y) == pytest.approx(pearsonr(X, Y)[0], rel=1e-12)
    assert spearman(X, Y) == pytest.approx(spearmanr(X, Y)[0], rel=1e-12)
    assert r2(X, Y) == pytest.approx(max(-1, r2_score(X, Y)), rel=1e-12)
    assert -1 < r2_score(X, [3.0, 2, 3, 4, 4, 0.5]) == pytest.approx(r2(X, [3.0, 2, 3, 4, 4, 0.5]))


def test_metrics_by_hand() -> None:
    # Deviations -1, 0, 1 and -1, -1, 2: 3 / sqrt(2 * 6).
    assert pearson([1, 2, 3], [0, 0, 3]) == pytest.approx(3 / 12**0.5)
    assert pearson([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    # Ranks 1, 2, 3 and 1.5, 1.5, 3: deviations -0.5, -0.5, 1.
    assert spearman([1, 2, 3], [7, 7, 8]) == pytest.approx(1.5 / (2 * 1.5) ** 0.5)
    # 1 - (0 + 0 + 1) / (1 + 0 + 1).
    assert r2([1, 2, 3], [1, 2, 4]) == pytest.approx(0.5)
    assert r2([1, 2, 3], [2, 2, 2]) == 0 and r2([1, 2, 3], [100, 2, 3]) == -1


@pytest.mark.parametrize("metric", [pearson, spearman])
def test_a_constant_has_no_correlation(metric: Any) -> None:
    assert metric([1, 2, 3], [0.1, 0.1, 0.1]) == metric([2.7, 2.7], [1, 2]) == 0.0


def test_floats_are_regression(tmp_path: Path) -> None:
    task = load_task(folder(tmp_path, [0.0, 2.5, 5.0], [1.0, 3.75]))
    assert (task.kind, task.labels, task.metric) == ("regression", (), "pearson")
    assert task.train.labels == (0.0, 2.5, 5.0)
    # The mean 2.5, and the root of (6.25 + 0 + 6.25) / 3.
    assert task.options == {"mean": "2.5", "std": "2.04124"}
    assert kind_of(task) == Regression(2.5, 2.04124)
    limited = load_task(tmp_path, max_train_samples=2)
    assert limited.options != task.options


def test_the_kind_can_be_given(tmp_path: Path) -> None:
    path = folder(tmp_path, [1, 2, 5], [1, 4])
    assert "task_kind to regression" in message(path)
    task = load_task(path, task_kind="regression", metric="r2")
    assert (task.kind, task.metric, task.train.labels) == ("regression", "r2", (1.0, 2.0, 5.0))
    classes = load_task(folder(tmp_path, [0, 1], [1]))
    assert (classes.kind, classes.options) == ("classification", {})


def test_decimals_as_text_fit_two_kinds(tmp_path: Path) -> None:
    path = folder(tmp_path, [1.5, 2.0], [1.0, 2.5], ".csv")
    text = message(path)
    assert "train.csv, with the columns text, label, fits classification and regression" in text
    assert "(column 'label' is 1.5, 2.0, ...)" in text
    assert "Classification needs a label that is an integer from 0 or a name" in text
    assert "regression needs a label that is a decimal number" in text
    assert load_task(path, task_kind="regression").train.labels == (1.5, 2.0)


@pytest.mark.parametrize(
    ("train", "validation", "options", "expected"),
    [
        ([1.0, 2.0], [1.0], {}, "fits no kind of task"),
        ([0.5, None], [0.5, 1.0], {}, "train.jsonl, row 2: missing label in column 'label'"),
        ([0.5, 1.0], [0.5, ""], {}, "validation.jsonl, row 2: missing label"),
        ([0.5, 1.0], [0.5, "high"], {}, "row 2: 'high' is no finite number"),
        ([0.5, 1.0], [0.5, True], {}, "row 2: True is no finite number"),
        ([0.5, 1.0], [0.5, 1e999], {}, "row 2: inf is no finite number"),
        ([0.5, 0.5], [0.5, 1.0], {}, "train.jsonl: every number in column 'label' is 0.5"),
        ([0.5, 1.0], [0.5, 0.5], {}, "validation.jsonl: every number"),
        ([0.5, 1.0], [0.5, 1.0], {"max_train_samples": 1}, "keeps only one number of"),
        ([0.5, 1.0], [0.5, 1.0], {"metric": "accuracy"}, "unknown metric 'accuracy'"),
        ([0.5, 1.0], [0.5, 1.0], {"metric": "pearsn"}, "did you mean 'pearson'?"),
        ([0.5, 1.0], [0.5, 1.0], {"task_kind": "regresion"}, "did you mean 'regression'?"),
        ([0.5, 1.0], [0.5, 1.0], {"task_kind": "classification"}, "0.5 is not an integer or name"),
        (["no", "yes"], ["no"], {"task_kind": "regression"}, "'no' is no finite number"),
        ([0, 0.5], [0], {}, "task_kind is not regression"),
    ],
)
def test_labels_that_are_no_numbers(
    tmp_path: Path, train: list[Any], validation: list[Any], options: Any, expected: str
) -> None:
    assert expected in message(folder(tmp_path, train, validation), **options)


@pytest.mark.parametrize(
    "options",
    [{}, {"mean": "1"}, {"mean": "1", "std": "0"}, {"mean": "1", "std": "-2"},
     {"mean": "nan", "std": "1"}, {"mean": "1", "std": "x"}, {"mean": "1", "std": "1", "a": "1"}],
)  # fmt: skip
def test_options_that_no_task_has(options: dict[str, str]) -> None:
    with pytest.raises(D90Error, match="expected mean and std"):
        Regression.of((), options)


def test_a_far_mean_keeps_its_digits() -> None:
    labels = [1_700_000_000.25, 1_700_000_001.75]
    assert Regression.options(labels) == {"mean": "1700000001", "std": "0.75"}


def test_the_loss_is_of_standardized_labels() -> None:
    class Fixed(torch.nn.Module):
        def forward(self, **_: torch.Tensor) -> Any:
            return type("Output", (), {"logits": torch.tensor([[0.5], [-1.0]])})

    kind = Regression(mean=10.0, std=4.0)
    labels = torch.tensor([10.0, 18.0], dtype=torch.float64)
    # (0.5 - 0)^2 + (-1 - 2)^2, and predictions 12 and 6 against 10 and 18.
    assert kind.loss(Fixed(), {}, labels).item() == pytest.approx(9.25)
    found = kind.predict(Fixed(), {}, labels)
    assert found.values.tolist() == [12.0, 6.0]
    assert found.losses.tolist() == pytest.approx([4 + 144])
    outputs = kind.interpret(torch.tensor([[0.5], [-1.0]], dtype=torch.float64))
    assert kind.answers(outputs) == [12.0, 6.0]
    assert kind.to_row([12.3456789]) == {"prediction": 12.345679}


def test_what_is_no_better_than_a_constant_has_collapsed() -> None:
    kind = Regression(mean=0.0, std=10.0)
    assert kind.has_collapsed([1.0, 5.0], 0.0) and kind.has_collapsed([1.0, 5.0], -0.5)
    assert kind.has_collapsed([1.0, 1.01], 0.9) and not kind.has_collapsed([1.0, 1.1], 0.9)


def test_the_digest_is_of_the_kind_and_the_numbers(tmp_path: Path) -> None:
    path = folder(tmp_path, [0.5, 1.0], [0.5, 1.0])
    first: Task = load_task(path)
    assert first.digest() == load_task(path).digest() != load_task(path, metric="r2").digest()
    assert first.digest() != replace(first, options={"mean": "0", "std": "1"}).digest()
    assert first.digest() != replace(first, kind="classification").digest()
    folder(tmp_path, [0.5, 1.25], [0.5, 1.0])
    assert first.digest() != load_task(path).digest()
