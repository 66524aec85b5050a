"""Losses of an evaluation: against scikit-learn, in any number of processes, and per epoch."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from sklearn.metrics import log_loss
from tests.helpers.ranks import ranks
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from d90.tasks import Split, Task, constant_losses
from d90.tasks.kinds import Predictions
from d90.training import TrainConfig, train
from d90.training.data import TokenizedTask, evaluation_batches, tokenize
from d90.training.evaluation import evaluate, predict


class Fixed(nn.Module):
    """Logits that are a function of the tokens, times `scale`."""

    def __init__(self, classes: int, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        table = torch.randn(64, classes, generator=torch.Generator().manual_seed(3))
        self.table = nn.Parameter(table)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **_: Tensor) -> SimpleNamespace:
        rows = self.table[input_ids] * attention_mask[:, :, None]
        return SimpleNamespace(logits=self.scale * rows.sum(1))


def task_of(classes: int, tokenizer: PreTrainedTokenizerFast) -> TokenizedTask:
    words = ["good", "bad", "awful", "great", "word0", "word1"]
    texts = [(" ".join(words[(i * k) % 6] for k in range(1, 2 + i % 5)),) for i in range(40)]
    labels = [i * i % min(classes, 7) for i in range(40)]
    split = Split(texts, labels)
    names = tuple(f"class {k}" for k in range(classes))
    return tokenize(
        Task("t", ("text",), names, "accuracy", split, {"validation": split}), tokenizer
    )


def predicted(data: TokenizedTask, model: nn.Module, size: int, **group: Any) -> Predictions:
    split = data.evaluation["validation"]
    batches = evaluation_batches(split.lengths, size)
    return predict(model, data, split, batches, Accelerator(cpu=True), **group)


@pytest.mark.parametrize("classes", [2, 5, 300])
def test_losses_are_those_of_scikit_learn(
    classes: int, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    data, model = task_of(classes, tiny_tokenizer), Fixed(classes)
    split = data.evaluation["validation"]
    batches = evaluation_batches(split.lengths, 7)
    result = predicted(data, model, 7)
    rows = [row for rows in batches for row in rows]
    ids = [split.columns["input_ids"][split.offsets[r] : split.offsets[r + 1]] for r in rows]
    logits = torch.stack([model.table[i.long()].sum(0) for i in ids]).detach()
    p, labels = logits.double().softmax(-1).numpy(), split.labels[rows].numpy()
    assert result.values == logits.argmax(-1).tolist()
    assert result.losses["nll"] == pytest.approx(
        log_loss(labels, p, labels=list(range(classes))), rel=1e-5
    )
    squares = ((p - np.eye(classes)[labels]) ** 2).sum(1).mean()
    assert result.losses["brier"] == pytest.approx(squares, rel=1e-5)


@pytest.mark.parametrize("classes", [2, 300])
def test_any_number_of_processes_gives_the_same_bits(
    classes: int, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    data, model = task_of(classes, tiny_tokenizer), Fixed(classes)
    *_, last = [predicted(data, model, 4, process_group=group) for group in ranks(3)]
    assert last == predicted(data, model, 4)


def test_a_skill_is_zero_at_the_class_shares(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    class Shares(nn.Module):
        def forward(self, input_ids: Tensor, **_: Tensor) -> SimpleNamespace:
            return SimpleNamespace(logits=logits.repeat(len(input_ids), 1))

    data = task_of(2, tiny_tokenizer)
    labels = data.evaluation["validation"].labels.tolist()
    share = sum(labels) / len(labels)
    assert 0 < share < 1
    logits = torch.tensor([math.log(1 - share), math.log(share)])
    scores = evaluate(Shares(), data, 8, Accelerator(cpu=True))
    assert scores.skills == pytest.approx({"brier": 0.0, "nll": 0.0}, abs=1e-6)
    assert scores.metrics["validation/nll"] == pytest.approx(constant_losses(labels)["nll"])
    assert scores.metrics["validation/brier"] == pytest.approx(constant_losses(labels)["brier"])


def test_a_loss_beyond_float32_is_finite(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    data, model = task_of(2, tiny_tokenizer), Fixed(2, scale=1e37)
    losses = predicted(data, model, 8).losses
    assert 1e30 < losses["nll"] < math.inf
    assert 0 <= losses["brier"] <= 2


def test_each_skill_is_of_its_own_best_epoch(
    toy_task: Task, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    class Surer(nn.Module):
        """Its first epoch is unsure and half wrong, its second sure and seldom wrong."""

        def __init__(self) -> None:
            super().__init__()
            self.weight, self.epochs, self.was_training = nn.Parameter(torch.zeros(())), 0, True

        def forward(self, input_ids: Tensor, **_: Tensor) -> SimpleNamespace:
            self.epochs += self.was_training and not self.training
            self.was_training = self.training
            good = (input_ids[:, 1:3] <= 5).any(1)
            wrong = torch.arange(len(input_ids)) % 4 < (2 if self.epochs == 1 else 1)
            side = torch.where(good ^ wrong, -1.0, 1.0) * (0.1 if self.epochs == 1 else 30.0)
            return SimpleNamespace(logits=torch.stack([side, -side], 1) + 0 * self.weight)

    data = tokenize(toy_task, tiny_tokenizer)
    result = train(Surer(), data, TrainConfig(epochs=2, batch_size=8), learning_rate=0.01)
    first, second = result.history
    assert second["metric"] > first["metric"]
    assert second["nll"] < first["nll"] == result.skills["nll"]
    assert result.skills["brier"] == max(first["brier"], second["brier"])
