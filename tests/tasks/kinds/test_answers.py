"""Generation scored by answers: the decoded text against `generate` itself, row by row."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from tests.helpers import tiny
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerFast

from d90.errors import D90Error
from d90.executors import TrialRunner
from d90.models import loading
from d90.search.trial import Trial
from d90.tasks import Task, kind_of, load_task
from d90.tasks.decoding import GSM8K, Answers, find_answer
from d90.tasks.kinds import Generation
from d90.training import TrainConfig
from d90.training.data import TokenizedTask, evaluation_batches, tokenize
from d90.training.evaluation import predict

CPU = torch.device("cpu")
PATTERN = "good|great|bad|awful|word0"
OPTIONS = {"answer_pattern": PATTERN, "max_new_tokens": "5"}

every_family = pytest.mark.parametrize("family", ["gpt2", "llama", "t5"])

Opened = tuple[Any, PreTrainedTokenizerFast, TokenizedTask]


def toy() -> Task:
    """Its completions, `bad` and `great good`, have the answers `bad` and `good`."""
    return replace(tiny.toy_generation(), metric="exact_match", options=OPTIONS)


@pytest.fixture
def opened(tmp_path: Path) -> Callable[[str], Opened]:
    """A model that has learned some of the answers."""

    def of(family: str) -> Opened:
        tiny.write_language_model(tmp_path, family)
        model, tokenizer = loading.load(str(tmp_path), **Generation().model_options)
        assert isinstance(tokenizer, PreTrainedTokenizerFast)
        data = tokenize(toy(), tokenizer, kind=kind_of(toy()).on(model, tokenizer, 32))
        optimizer = torch.optim.Adam(model.parameters(), 0.01)
        rows = list(range(48))
        for _ in range(40):
            if 8 < sum(answered(data, model, 64).values()) < 56:
                break
            optimizer.zero_grad()
            data.kind.loss(model, *data.kind.collate(data, data.train, rows, CPU)).backward()
            optimizer.step()
        return model, tokenizer, data

    return of


def answered(data: TokenizedTask, model: PreTrainedModel, size: int) -> dict[int, int]:
    """Whether each row of the evaluation split is answered, in batches of this size."""
    split = data.evaluation[data.primary]
    batches = evaluation_batches(split.lengths, size)
    found = predict(model, data, split, batches, Accelerator(cpu=True))
    rows = [row for batch in batches for row in batch]
    return {row: value & 1 for row, value in zip(rows, found.values, strict=True)}


def alone(model: Any, tokenizer: PreTrainedTokenizerFast, data: TokenizedTask, row: int) -> str:
    """What `generate` gives for the prompt of one row."""
    split = data.evaluation[data.primary]
    ids = split.columns["input_ids"][split.offsets[row] : split.offsets[row + 1]].long()[None]
    prompt = ids[:, : ids.shape[1] - int(split.labels[row])]
    tokens = model.generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=5, do_sample=False
    )
    new: Tensor = tokens[0] if model.config.is_encoder_decoder else tokens[0, prompt.shape[1] :]
    return str(tokenizer.decode(new.tolist(), skip_special_tokens=True))


@every_family
def test_answers_are_those_of_generate_row_by_row(
    family: str, opened: Callable[[str], Opened]
) -> None:
    model, tokenizer, data = opened(family)
    labels = toy().evaluation["validation"].labels
    texts = [alone(model, tokenizer, data, row) for row in range(len(labels))]
    expected = {
        row: int((text.split() or [""])[-1] == label.split()[-1])
        for row, (text, label) in enumerate(zip(texts, labels, strict=True))
    }
    assert 0 < sum(expected.values()) < len(labels) and len({len(t.split()) for t in texts}) > 1
    for side, size in (("left", 1), ("left", 7), ("right", 7), ("right", 64)):
        assert answered(replace(data, padding_side=side), model, size) == expected


@every_family
def test_the_generation_config_of_the_checkpoint_changes_no_answer(
    family: str, opened: Callable[[str], Opened]
) -> None:
    model, _, data = opened(family)
    expected = answered(data, model, 16)
    own = GenerationConfig(
        do_sample=True,
        temperature=9.0,
        num_beams=3,
        repetition_penalty=9.0,
        no_repeat_ngram_size=1,
        suppress_tokens=[4, 5, 6],
        forced_eos_token_id=3,
        min_new_tokens=4,
        max_length=1,
        eos_token_id=3,
    )
    model.generation_config = own
    assert answered(data, model, 16) == expected
    assert model.generation_config is own and model.config.use_cache is False


def test_an_end_token_of_the_checkpoint_ends_an_answer(opened: Callable[[str], Opened]) -> None:
    model, tokenizer, data = opened("gpt2")
    words = [tokenizer.convert_tokens_to_ids(word) for word in ("good", "bad")]
    model.generation_config.eos_token_id = [3, *words]
    assert not any(answered(data, model, 16).values())


def test_the_answer_is_that_of_the_last_match() -> None:
    import re

    def found(pattern: str, text: str) -> str | None:
        return find_answer(re.compile(pattern), text)

    assert found(GSM8K, "a #### 5\nb #### 1,234,567") == "1234567"
    assert found(GSM8K, "so #### -3.50.") == "-3.50"
    assert found(GSM8K, "#### five") is found(GSM8K, "") is None
    assert found("a|b", "b a") == "a"
    assert found("(a)|b", "a b") is None
    assert found("x*", "abc") is None
    assert found(r"is (.*)", "it is Paris, France.") == "Paris, France."


def write(folder: Path, completions: Sequence[str]) -> Path:
    rows = [{"prompt": "good", "completion": text} for text in completions]
    for name in ("train", "validation"):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_the_options_are_part_of_the_task(tmp_path: Path) -> None:
    path = write(tmp_path, ["bad", "great good"])
    plain = load_task(path)
    task = load_task(path, answer_pattern=PATTERN)
    assert (plain.metric, plain.options) == ("token_accuracy", {})
    assert task.metric == "exact_match"
    assert task.options == {"answer_pattern": PATTERN, "max_new_tokens": "256"}
    tasks = [
        plain,
        load_task(path, metric="exact_match"),
        task,
        load_task(path, answer_pattern="good|bad"),
        load_task(path, answer_pattern=PATTERN, max_new_tokens=7),
    ]
    assert len({task.digest() for task in tasks}) == 5
    assert kind_of(tasks[-1]) == Generation(Answers(PATTERN, 7))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"answer_pattern": "(good"}, "answer_pattern '(good' is no regular expression: missing )"),
        ({"answer_pattern": "a", "metric": "token_accuracy"}, "for exact_match, and the metric is"),
        ({"max_new_tokens": 5}, "nothing is decoded without answer_pattern"),
        ({"answer_pattern": "a", "max_new_tokens": 0}, "max_new_tokens 0: expected 1 to 999,999"),
        ({"answer_pattern": "a", "max_new_tokens": -5}, "max_new_tokens -5: expected 1 to"),
        ({"answer_pattern": "a", "task_kind": "classification", "text_columns": ["prompt"],
          "label_column": "completion"}, "for tasks of generation, and this one is of classif"),
    ],
)  # fmt: skip
def test_options_that_are_refused(tmp_path: Path, options: Any, expected: str) -> None:
    with pytest.raises(D90Error) as raised:
        load_task(write(tmp_path, ["bad", "great good"]), **options)
    assert expected in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"answer_pattern": "bad"}, "split 'train', row 1: answer_pattern 'bad' has no match in"),
        ({"answer_pattern": "[a-z]+|2"}, "row 2: its answer '2' is not in the tokens"),
        ({"answer_pattern": "[a-z]+", "max_new_tokens": 40}, "above the 32 tokens that the model"),
    ],
)
def test_data_without_an_answer(tmp_path: Path, options: Any, expected: str) -> None:
    model = tmp_path / "model"
    tiny.write_language_model(model, "gpt2")
    path = write(tmp_path, ["bad", "great good", "good 2"])
    task = load_task(path, **{"max_new_tokens": 9, **options})
    with pytest.raises(D90Error) as raised:
        TrialRunner(str(model), task, TrainConfig(precision="no"), max_length=16)
    assert expected in str(raised.value) and "\n" not in str(raised.value)


@every_family
def test_a_run_is_scored_by_its_answers(family: str, tmp_path: Path) -> None:
    tiny.write_language_model(tmp_path, family)
    config = TrainConfig(epochs=4, batch_size=8, precision="no")
    runner = TrialRunner(str(tmp_path), toy(), config, max_length=16)
    kind = runner.measured_data.kind
    assert isinstance(kind, Generation)
    words = [label.split()[-1] for label in toy().evaluation["validation"].labels]
    assert kind.constants["exact_match"] == max(map(words.count, words)) / len(words)
    assert kind.reference_of("exact_match") == "majority answer"
    result = runner.run(Trial(None, 0.02))
    assert result.metric == result.metrics["validation/exact_match"] > kind.constants["exact_match"]
