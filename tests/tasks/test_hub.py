"""Tasks assembled from hub data sets, with a fake hub, and without a network."""

from __future__ import annotations

import time
from typing import Any

import datasets
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value, config, exceptions

from d90.errors import D90Error
from d90.tasks import load_task

NLI = ("entailment", "neutral", "contradiction")


def dataset(columns: tuple[str, ...], names: tuple[str, ...], tag: str, rows: int = 3) -> Dataset:
    """Rows whose texts say where they came from, of every class in turn."""
    features = {**{column: Value("string") for column in columns}, "idx": Value("int32")}
    return Dataset.from_dict(
        {
            **{column: [f"{tag} {column} {i}" for i in range(rows)] for column in columns},
            "idx": list(range(rows)),
            "label": [i % len(names) for i in range(rows)],
        },
        features=Features({**features, "label": ClassLabel(names=list(names))}),
    )


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str], DatasetDict]:
    """What the hub holds, by (path, config); any other request fails the test."""
    held: dict[tuple[str, str], DatasetDict] = {}

    def load_dataset(path: str, config: str, **options: Any) -> DatasetDict:
        assert not options, "nothing that could run code of the data set"
        return held[path, config]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr("d90.tasks.hub.is_reachable", lambda url: True)
    return held


def test_mnli_has_matched_and_mismatched(hub: dict[tuple[str, str], DatasetDict]) -> None:
    splits = ("train", "validation_matched", "validation_mismatched", "test_matched")
    hub["nyu-mll/glue", "mnli"] = DatasetDict(
        {split: dataset(("premise", "hypothesis"), NLI, split) for split in splits}
    )
    task = load_task("mnli")
    assert task.name == "mnli"
    assert task.labels == NLI
    assert list(task.evaluation) == ["matched", "mismatched"]
    assert task.evaluation["mismatched"].texts[2] == (
        "validation_mismatched premise 2",
        "validation_mismatched hypothesis 2",
    )


def test_anli_is_the_three_rounds_in_order(hub: dict[tuple[str, str], DatasetDict]) -> None:
    rounds = {f"{split}_r{i}": 2 + i for split in ("train", "dev", "test") for i in (1, 2, 3)}
    hub["facebook/anli", "plain_text"] = DatasetDict(
        {name: dataset(("premise", "hypothesis"), NLI, name, n) for name, n in rounds.items()}
    )
    task = load_task("anli")
    tags = [premise.split()[0] for premise, _ in task.train.texts]
    assert tags == ["train_r1"] * 3 + ["train_r2"] * 4 + ["train_r3"] * 5
    assert task.train.labels == (0, 1, 2, 0, 1, 2, 0, 0, 1, 2, 0, 1)
    assert len(task.evaluation["validation"]) == 12


@pytest.mark.parametrize(
    ("name", "path", "config", "columns", "evaluation"),
    [
        ("mrpc", "nyu-mll/glue", "mrpc", ("sentence1", "sentence2"), "validation"),
        ("qqp", "nyu-mll/glue", "qqp", ("question1", "question2"), "validation"),
        ("sst2", "nyu-mll/glue", "sst2", ("sentence",), "validation"),
        ("yelp", "fancyzhx/yelp_polarity", "plain_text", ("text",), "test"),
    ],
)
def test_two_class_tasks(
    hub: dict[tuple[str, str], DatasetDict],
    name: str,
    path: str,
    config: str,
    columns: tuple[str, ...],
    evaluation: str,
) -> None:
    names = ("not so", "so")
    hub[path, config] = DatasetDict(
        {split: dataset(columns, names, split) for split in ("train", evaluation)}
    )
    task = load_task(name, max_eval_samples=2)
    assert task.text_columns == columns
    assert task.labels == names  # the hub's numbers, not the alphabet
    assert list(task.evaluation) == [evaluation]
    assert task.train.labels == (0, 1, 0)
    assert len(task.evaluation[evaluation]) == 2


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("Couldn't reach it\nmore"),
        TimeoutError(),
        ValueError("Couldn't find cache for nyu-mll/glue for config 'mrpc'"),
        exceptions.DatasetGenerationError("broken"),
    ],
)
def test_an_error_of_the_hub_is_one_line_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def load_dataset(path: str, config: str) -> DatasetDict:
        raise error

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr("d90.tasks.hub.is_reachable", lambda url: True)
    with pytest.raises(D90Error, match=r"connect once to download it, or give a folder") as raised:
        load_task("mrpc")
    assert "\n" not in str(raised.value)


def test_without_a_network_the_error_is_quick(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setattr(config, "HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens
    monkeypatch.setattr(config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(config, "HF_DATASETS_CACHE", tmp_path)
    start = time.monotonic()
    with pytest.raises(D90Error, match="connect once to download it"):
        load_task("mrpc")
    assert time.monotonic() - start < 5.0
    assert config.HF_HUB_OFFLINE is False


def test_gsm8k_is_generation_scored_by_its_answers(hub: dict[tuple[str, str], Any]) -> None:
    columns = {"question": ["1 + 1?", "2 + 2?"], "answer": ["1+1=2\n#### 2", "2+2=4\n#### 4"]}
    split = Dataset.from_dict(columns)
    hub["openai/gsm8k", "main"] = DatasetDict({"train": split, "test": split})
    task = load_task("gsm8k")
    assert (task.kind, task.metric, task.text_columns) == ("generation", "exact_match", ("prompt",))
    assert (list(task.evaluation), task.train.texts[1]) == (["test"], ("2 + 2?",))
    assert task.train.labels == ("1+1=2\n#### 2", "2+2=4\n#### 4")
    assert task.options == {"answer_pattern": "#### (-?[0-9.,]+)", "max_new_tokens": "256"}
    assert load_task("gsm8k", max_new_tokens=400).options["max_new_tokens"] == "400"
    assert load_task("gsm8k", answer_pattern="[0-9]").options["answer_pattern"] == "[0-9]"
    # What needs no decoding does not decode.
    assert load_task("gsm8k", metric="token_accuracy").options == {}


def test_stsb_is_regression(hub: dict[tuple[str, str], DatasetDict]) -> None:
    features = {
        "sentence1": Value("string"),
        "sentence2": Value("string"),
        "label": Value("float32"),
    }
    columns = {"sentence1": ["a", "b"], "sentence2": ["c", "d"], "label": [0.0, 3.8]}
    split = Dataset.from_dict(columns, features=Features(features))
    hub["nyu-mll/glue", "stsb"] = DatasetDict({"train": split, "validation": split})
    task = load_task("stsb")
    assert (task.kind, task.metric, task.labels) == ("regression", "pearson", ())
    assert task.text_columns == ("sentence1", "sentence2")
    assert task.train.labels == pytest.approx((0.0, 3.8))
