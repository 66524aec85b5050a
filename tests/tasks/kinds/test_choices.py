"""Generation scored by the most likely of the task's choices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from tests.helpers import tiny
from transformers import PreTrainedModel

from d90.errors import D90Error
from d90.executors import TrialRunner
from d90.models import loading
from d90.search.trial import Trial
from d90.tasks import Split, Task, kind_of, load_task
from d90.tasks.kinds import Generation
from d90.training import TrainConfig
from d90.training.data import TokenizedTask, evaluation_batches, tokenize
from d90.training.evaluation import predict

every_family = pytest.mark.parametrize("family", ["gpt2", "llama", "t5"])


def toy(completions: Sequence[str] = ("bad", "great good", "good word0 word1")) -> Task:
    """Completions of several lengths, not what the model would write."""

    def split(examples: Split) -> Split:
        count = len(completions)
        return Split(examples.texts, [completions[i % count] for i in range(len(examples))])

    task = tiny.toy_generation()
    return replace(
        task,
        metric="choice_accuracy",
        options={"choices": "train"},
        train=split(task.train),
        evaluation={"validation": split(task.evaluation["validation"])},
    )


def chosen(data: TokenizedTask, model: PreTrainedModel, size: int) -> dict[int, int]:
    """Whether each row of the evaluation split is right, in batches of this size."""
    split = data.evaluation[data.primary]
    batches = evaluation_batches(split.lengths, size)
    found = predict(model, data, split, batches, Accelerator(cpu=True))
    rows = [row for batch in batches for row in batch]
    return {row: value >> 1 & 1 for row, value in zip(rows, found.values, strict=True)}


def alone(model: Any, data: TokenizedTask, row: int, choices: Sequence[Sequence[int]]) -> int:
    """Whether the completion of a row has the smallest sum of losses, by the model's own loss."""
    split = data.evaluation[data.primary]
    ids = split.columns["input_ids"][split.offsets[row] : split.offsets[row + 1]].long()[None]
    cut = ids.shape[1] - int(split.labels[row])
    losses = []
    for choice in choices:
        target = torch.tensor([choice])
        if model.config.is_encoder_decoder:
            mean = model(input_ids=ids[:, :cut], labels=target).loss
        else:
            labels = torch.cat([torch.full((1, cut), -100), target], 1)
            mean = model(input_ids=torch.cat([ids[:, :cut], target], 1), labels=labels).loss
        losses.append(mean.item() * len(choice))
    return int(list(choices[losses.index(min(losses))]) == ids[0, cut:].tolist())


@every_family
def test_the_choice_is_the_most_likely_by_the_model_itself(family: str, tmp_path: Path) -> None:
    tiny.write_language_model(tmp_path, family)
    model, tokenizer = loading.load(str(tmp_path), **Generation().model_options)
    with torch.no_grad():  # Or the shortest choice is always the most likely.
        table: Any = model.get_output_embeddings()  # Of GPT-2 and T5 it is tied to the inputs'.
        table.weight.mul_(3.0)
    task = toy(["good", "great good", "bad word0", "awful word1 word2"])
    data = tokenize(task, tokenizer, kind=kind_of(task).on(model, tokenizer, 32))
    kind = data.kind
    assert isinstance(kind, Generation) and {len(c) for c in kind.choices} == {2, 3, 4}
    rows = range(len(data.evaluation["validation"]))
    with torch.no_grad():
        expected = {row: alone(model, data, row, kind.choices) for row in rows}
    assert 0 < sum(expected.values()) < len(rows)
    for side, size in (("left", 1), ("left", 7), ("right", 7), ("right", 64)):
        assert chosen(replace(data, padding_side=side), model, size) == expected


def test_a_run_is_scored_by_its_choices(tmp_path: Path) -> None:
    tiny.write_language_model(tmp_path, "gpt2")
    task = replace(tiny.toy_generation(), metric="choice_accuracy", options={"choices": "train"})
    config = TrainConfig(epochs=4, batch_size=8, precision="no")
    runner = TrialRunner(str(tmp_path), task, config, max_length=16)
    kind = runner.measured_data.kind
    assert isinstance(kind, Generation) and len(kind.choices) == 2
    words = list(task.evaluation["validation"].labels)
    assert kind.constants["choice_accuracy"] == max(map(words.count, words)) / len(words)
    result = runner.run(Trial(None, 0.02))
    assert result.metric == result.metrics["validation/choice_accuracy"]
    assert result.metric is not None
    assert result.metric > kind.constant_score("choice_accuracy", ()) + 0.2


def test_choices_are_those_of_the_training_split() -> None:
    tokenizer = tiny.tokenizer()
    tokenizer.eos_token = "[SEP]"
    task = toy()
    kind = tokenize(task, tokenizer).kind
    assert isinstance(kind, Generation)
    # Each ends with the end-of-text token.
    assert kind.choices == ((4, 8, 9, 3), (5, 4, 3), (6, 3))
    other = replace(task, evaluation={"validation": Split([("good",)], ["awful"])})
    expected = "split 'validation', row 0: its completion 'awful' is none of the 3 of the training"
    with pytest.raises(D90Error, match=expected):
        tokenize(other, tokenizer)
    many = [" ".join(words) for words in product(tiny.FILLER, repeat=4)]
    split = Split([("good",)] * len(many), many)
    with pytest.raises(D90Error, match="has 1,296 different completions, and choices are at most"):
        tokenize(replace(task, train=split, evaluation={"validation": split}), tokenizer)


def test_it_is_measured_where_it_is_asked_for(tmp_path: Path) -> None:
    tiny.write_task(tiny.toy_task(), tmp_path / "toy")
    path = tmp_path / "toy"
    for name in ("train", "validation"):
        file = path / f"{name}.jsonl"
        file.write_text(
            file.read_text()
            .replace('"text"', '"prompt"')
            .replace('"label": 0', '"completion": "bad"')
            .replace('"label": 1', '"completion": "good"')
        )
    task = load_task(path, metric="choice_accuracy")
    assert (task.kind, task.options) == ("generation", {"choices": "train"})
    assert kind_of(task).available_metrics == ("token_accuracy", "exact_match", "choice_accuracy")
    assert "choice_accuracy" not in kind_of(load_task(path)).available_metrics
    assert load_task(path).digest() != task.digest()
