"""How often an optimizer step and an evaluation wait for the device."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from tests.helpers.reads import META, on_meta
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from d90.subspace import attach
from d90.tasks import Task
from d90.tasks.tokens import collate
from d90.training import TrainConfig
from d90.training.data import TokenizedTask, tokenize
from d90.training.trainer import Trainer

CONFIG = TrainConfig(max_steps=3, batch_size=8, precision="no")


class Words(nn.Module):
    """The mean of the words, through layers with dropout; it reads no value of its inputs."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, 6)
        self.layers = nn.ModuleList(nn.Linear(6, 6) for _ in range(3))
        self.dropout, self.head = nn.Dropout(0.1), nn.Linear(6, 2)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **_: Tensor) -> SimpleNamespace:
        x = self.words(input_ids) * attention_mask[:, :, None]
        for layer in self.layers:
            x = x + self.dropout(layer(x).tanh())
        return SimpleNamespace(logits=self.head(x.mean(1)))


@pytest.fixture
def data(toy_task: Task, tiny_tokenizer: PreTrainedTokenizerFast) -> TokenizedTask:
    return tokenize(toy_task, tiny_tokenizer)


@pytest.mark.parametrize("batches", [1, 3])
@pytest.mark.parametrize("method", ["did", "said", "full"])
def test_a_step_reads_from_the_device_once(
    data: TokenizedTask, method: str, batches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Words(20)
    if method != "full":
        attach(model, d=12, method=method)
    traffic, mode = on_meta(monkeypatch)
    config = replace(CONFIG, gradient_accumulation_steps=batches)
    run = Trainer(model, data, config, learning_rate=0.01)
    run.optimizer_step()  # The reference of a projection copies its tables to the device once.
    assert traffic.reads == 1
    for step in (1, 2):
        with mode:
            run.optimizer_step()
        assert (traffic.reads, traffic.copies) == (1 + step, step * batches)


@pytest.mark.parametrize("method", ["did", "full"])
def test_an_evaluation_reads_from_the_device_once_for_each_split(
    data: TokenizedTask, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Words(20)
    if method != "full":
        attach(model, d=12, method=method)
    traffic, _ = on_meta(monkeypatch)
    run = Trainer(model, data, replace(CONFIG, max_steps=10), learning_rate=0.01)
    run.evaluation_batch_size = 8
    run.optimizer_step()
    before = traffic.reads
    with pytest.raises(FloatingPointError, match="a prediction is not finite"):
        run.evaluate()  # The answer to the one read is that every prediction is wrong.
    assert traffic.reads == before + 1


def test_a_batch_is_one_copy(data: TokenizedTask, monkeypatch: pytest.MonkeyPatch) -> None:
    traffic, mode = on_meta(monkeypatch)
    with mode:
        inputs, labels = collate(data, data.train, [3, 1, 2], META)
    assert traffic.copies == 1
    expected, _ = collate(data, data.train, [3, 1, 2], torch.device("cpu"))
    assert {name: tensor.shape for name, tensor in inputs.items()} == {
        name: tensor.shape for name, tensor in expected.items()
    }
    assert (labels.shape, labels.dtype) == ((3,), torch.int64)
