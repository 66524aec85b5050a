"""What every kind of task promises to training, evaluation and adapters."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from tests.helpers import tiny
from tests.helpers.ranks import ranks
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from d90.distributed.process_group import ProcessGroup
from d90.executors import TrialRunner
from d90.models import loading
from d90.search.trial import Trial
from d90.subspace import attach
from d90.tasks import KINDS, Task, kind_of
from d90.tasks.kinds import Predictions
from d90.training import TrainConfig
from d90.training.data import TokenizedTask, evaluation_batches, tokenize
from d90.training.evaluation import predict
from d90.training.trainer import Trainer

CPU = torch.device("cpu")
TASKS: dict[str, Callable[[], Task]] = {
    "classification": tiny.toy_task,
    "regression": tiny.toy_regression,
    "generation": tiny.toy_generation,
}

every_kind = pytest.mark.parametrize("kind", TASKS)
of_constants = pytest.mark.parametrize(
    "kind", [name for name, kind in KINDS.items() if not kind.starts_from_model]
)
"""The kinds whose reference is a constant prediction."""


def test_the_sweep_is_complete() -> None:
    assert set(TASKS) == set(KINDS)
    assert all(name == kind.name for name, kind in KINDS.items())


class Words(nn.Module):
    """The sum of the words' vectors, to which neither padding nor its side matters.

    Without a number of outputs they are those up to each word: scores of the next one.
    """

    def __init__(self, num_labels: int | None) -> None:
        super().__init__()
        self.is_causal = num_labels is None
        outputs = num_labels or 14
        table = torch.randn(64, outputs, generator=torch.Generator().manual_seed(5))
        self.table = nn.Parameter(table - table[:14].mean(0))

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **_: Tensor) -> SimpleNamespace:
        rows = self.table[input_ids] * attention_mask[:, :, None]
        return SimpleNamespace(logits=rows.cumsum(1) if self.is_causal else rows.sum(1))


def tokenized(kind: str, tokenizer: PreTrainedTokenizerFast) -> tuple[TokenizedTask, Words]:
    data = tokenize(TASKS[kind](), tokenizer)
    return data, Words(data.kind.model_options["num_labels"])


def predicted(
    data: TokenizedTask, model: nn.Module, size: int, group: ProcessGroup | None = None
) -> tuple[Predictions, dict[str, float]]:
    """The predictions in batches of this size, and every score."""
    split = data.evaluation[data.primary]
    batches = evaluation_batches(split.lengths, size)
    found = predict(model, data, split, batches, Accelerator(cpu=True), group or ProcessGroup())
    labels = split.labels[[row for rows in batches for row in rows]].tolist()
    return found, data.kind.scores(labels, found)


@every_kind
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("size", [1, 7, 64])
def test_neither_batches_nor_padding_change_a_score(
    kind: str, side: str, size: int, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    data, model = tokenized(kind, tiny_tokenizer)
    found, scores = predicted(replace(data, padding_side=side), model, size)
    expected, right = predicted(data, model, 3)
    assert found.values == pytest.approx(expected.values, rel=1e-5)
    assert scores == pytest.approx(right, rel=1e-5)
    assert set(scores) == {*data.kind.available_metrics, *data.kind.losses}
    assert len(set(found.values)) > 1
    split = data.evaluation[data.primary]
    batch = data.kind.predict(model, *data.kind.collate(data, split, range(len(split)), CPU))
    sums = dict(zip(data.kind.losses, batch.losses.tolist(), strict=True))
    count = data.kind.count(split, range(len(split)))
    assert {k: loss * count for k, loss in found.losses.items()} == pytest.approx(sums)


@every_kind
def test_predictions_are_the_same_bits_in_any_number_of_processes(
    kind: str, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    data, model = tokenized(kind, tiny_tokenizer)
    *_, last = [predicted(data, model, 4, group) for group in ranks(3)]
    assert last == predicted(data, model, 4)


@every_kind
@pytest.mark.parametrize("size", [1, 5, 96])
@pytest.mark.parametrize("world", [1, 3])
def test_the_loss_is_the_same_for_any_split_into_batches_and_processes(
    kind: str, size: int, world: int, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    data, model = tokenized(kind, tiny_tokenizer)

    def loss(batches: list[list[int]]) -> Tensor:
        inputs = [data.kind.collate(data, data.train, rows, CPU) for rows in batches]
        return sum((data.kind.loss(model, *pair) for pair in inputs), torch.zeros(()))

    rows = list(range(len(data.train)))
    batches = [rows[start : start + size] for start in range(0, len(rows), size)]
    shares = [ProcessGroup(rank, world).shard(batch) for batch in batches for rank in range(world)]
    total = loss([list(share) for share in shares if share])
    assert total.item() == pytest.approx(loss([rows]).item(), rel=1e-5)
    count = sum(data.kind.count(data.train, batch) for batch in batches)
    assert count == data.kind.count(data.train, rows) > 0


@every_kind
@pytest.mark.parametrize("accumulated", [1, 3])
def test_a_step_has_the_mean_loss_of_its_examples(
    kind: str, accumulated: int, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    data, model = tokenized(kind, tiny_tokenizer)
    config = TrainConfig(
        batch_size=12 // accumulated, gradient_accumulation_steps=accumulated, precision="no"
    )
    run = Trainer(model, data, config, learning_rate=0.01)
    rows = [row for batch in run._batches_of(0) for row in batch]
    total = data.kind.loss(model, *data.kind.collate(data, data.train, rows, CPU))
    mean = total.item() / data.kind.count(data.train, rows)
    assert sum(loss.item() for loss in run._losses(0)) == pytest.approx(mean, rel=1e-5)


@every_kind
def test_gradients_of_z_through_the_loss(
    kind: str, tiny_folder: Path, tiny_language_model: Path
) -> None:
    task = TASKS[kind]()
    folder = tiny_language_model if kind == "generation" else tiny_folder
    model, tokenizer = loading.load(str(folder), **kind_of(task).model_options)
    data = tokenize(task, tokenizer)
    subspace = attach(model, d=20)
    inputs, labels = data.kind.collate(data, data.train, list(range(32)), CPU)
    with torch.no_grad():
        subspace.z.copy_(torch.linspace(-0.1, 0.1, 20))
    data.kind.loss(model, inputs, labels).backward()
    assert subspace.z.grad is not None
    norm = float(subspace.z.grad.norm())
    direction, losses = subspace.z.grad / norm, []
    for step in (5e-3, -1e-2):
        with torch.no_grad():
            subspace.z.add_(step * direction)
            losses.append(data.kind.loss(model, inputs, labels).item())
    assert (losses[0] - losses[1]) / 1e-2 == pytest.approx(norm, rel=5e-3)


@every_kind
def test_a_trained_model_is_better_than_the_reference(
    kind: str, ready_folder: Path, tiny_language_model: Path
) -> None:
    task = TASKS[kind]()
    folder = tiny_language_model if kind == "generation" else ready_folder
    config = TrainConfig(epochs=6, batch_size=8, precision="no")
    runner = TrialRunner(str(folder), task, config, max_length=16)
    result = runner.run(Trial(None, 0.01))
    assert result.is_valid
    of_kind = runner.measured_data.kind
    labels = task.evaluation[task.primary].labels
    for metric in of_kind.available_metrics:
        reference = of_kind.constant_score(metric, labels)
        assert result.metrics[f"validation/{metric}"] > reference + 0.1


@of_constants
def test_no_constant_prediction_is_better_than_the_reference(kind: str) -> None:
    task = TASKS[kind]()
    labels, of_kind = list(task.evaluation[task.primary].labels), kind_of(task)
    for metric in of_kind.available_metrics:
        scores = [of_kind.score(metric, labels, [value] * len(labels)) for value in set(labels)]
        reference = of_kind.constant_score(metric, labels)
        assert max(scores) <= reference
        assert of_kind.score(metric, labels, labels) > reference
    assert of_kind.has_collapsed([labels[0]] * len(labels), reference)
    assert not of_kind.has_collapsed(labels, 1.0)


@of_constants
def test_a_model_that_predicts_a_constant_has_collapsed(
    kind: str, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    data, model = tokenized(kind, tiny_tokenizer)
    with torch.no_grad():
        model.table.zero_()
    found, scores = predicted(data, model, 8)
    assert data.kind.has_collapsed(found.values, scores[data.metric])


@every_kind
def test_a_prediction_that_is_not_finite_is_an_error(
    kind: str, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    data, model = tokenized(kind, tiny_tokenizer)
    with torch.no_grad():
        model.table[4:] = torch.inf
    with pytest.raises(FloatingPointError, match="not finite"):
        predicted(data, model, 8)


@of_constants
def test_single_examples_are_predicted_as_in_training(
    kind: str, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    data, model = tokenized(kind, tiny_tokenizer)
    found, _ = predicted(data, model, 8)
    split = data.evaluation[data.primary]
    rows = [row for batch in evaluation_batches(split.lengths, 8) for row in batch]
    inputs, _ = data.kind.collate(data, split, rows, CPU)
    outputs = data.kind.interpret(model(**inputs).logits.detach().double())
    assert data.kind.answers(outputs) == pytest.approx(found.values, rel=1e-5)
    assert "text" not in data.kind.to_row(outputs[0].tolist())


@every_kind
def test_a_kind_is_of_its_task_and_travels(kind: str) -> None:
    task = TASKS[kind]()
    of_kind = kind_of(task)
    assert pickle.loads(pickle.dumps(of_kind)) == of_kind == kind_of(task)
    assert of_kind.check_metric(None) == task.metric == of_kind.available_metrics[0]
    assert of_kind.constant_loss > 0
    assert isinstance(of_kind.needs, str) and isinstance(of_kind.short_reference(), str)
