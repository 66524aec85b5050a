"""Predictions of a model with an adapter, and its metrics on a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from accelerate import Accelerator
from numpy.typing import NDArray

from d90.adapters import Adapter
from d90.adapters.model import AdapterModel
from d90.errors import D90Error
from d90.models.loading import guarded
from d90.tasks import Split, Task, majority_score, metrics_of, score
from d90.training.data import evaluation_batches, tokenize_examples
from d90.training.evaluation import NOT_FINITE, outputs

BATCH = 64

OnRows = Callable[[int, int], None]
"""Called with the number of finished rows and of all rows."""


@dataclass(frozen=True)
class SplitScores:
    """The metrics of a model on one split.

    Attributes:
        rows: number of rows of the split.
        metrics: by name, fractions.
        majority: of the task's metric, for the best constant predictor.
    """

    rows: int
    metrics: Mapping[str, float]
    majority: float


def predict_probabilities(
    model: AdapterModel,
    examples: Sequence[tuple[str, ...]],
    *,
    batch_size: int = BATCH,
    on_rows: OnRows | None = None,
) -> NDArray[np.float64]:
    """The probability of each class, shape (examples, classes); truncated as in training.

    Args:
        model: from `d90.load`.
        examples: one text per text column of the task, in each.
        batch_size: rows per forward pass.
        on_rows: called after each batch.

    Raises:
        D90Error: an example with the wrong number of texts, or without tokens; a prediction that
            is not finite.
    """
    if model.adapter is None:
        raise D90Error("the model is its base, without a task: call model.switch(adapter) first.")
    task = model.adapter.task
    for number, row in enumerate(examples, 1):
        if len(row) != len(task.text_columns):
            raise D90Error(
                f"row {number} has {len(row)} texts: the task '{task.name}' has "
                f"{' and '.join(task.text_columns)}."
            )
    probabilities = np.zeros((len(examples), len(task.labels)))
    with guarded(model.base.name):
        data = tokenize_examples(examples, model.tokenizer, max_length=task.max_length)
    batches = evaluation_batches(data.split.lengths, batch_size)
    accelerator = Accelerator(mixed_precision="no", cpu=model.device.type == "cpu")
    parts = outputs(model, data, data.split, batches, accelerator)
    done = 0
    for rows, (part, _) in zip(batches, parts, strict=True):
        values = part.double().cpu()
        if not values.isfinite().all():
            raise D90Error(f"{NOT_FINITE}: the weights of this adapter overflow on this text.")
        probabilities[rows] = values.softmax(-1).numpy()
        done += len(rows)
        if on_rows is not None:
            on_rows(done, len(examples))
    return probabilities


def predict(
    model: AdapterModel, split: Split, *, batch_size: int = BATCH, on_rows: OnRows | None = None
) -> list[int]:
    """The most probable class of each row.

    Raises:
        D90Error: as `predict_probabilities`.
    """
    probabilities = predict_probabilities(
        model, split.texts, batch_size=batch_size, on_rows=on_rows
    )
    return probabilities.argmax(1).tolist()


def evaluate(
    model: AdapterModel, task: Task, *, batch_size: int = BATCH, on_rows: OnRows | None = None
) -> dict[str, SplitScores]:
    """Every metric on every evaluation split of a task.

    Raises:
        D90Error: a task whose classes are not the adapter's; as `predict_probabilities`.
    """
    if model.adapter is not None:
        check_classes(model.adapter, task)
    scores = {}
    for name, split in task.evaluation.items():
        predicted = predict(model, split, batch_size=batch_size, on_rows=on_rows)
        scores[name] = _scores(task, split, predicted)
    return scores


def check_classes(adapter: Adapter, task: Task) -> None:
    """Refuse a task whose classes are not the adapter's.

    Raises:
        D90Error: naming both.
    """
    labels = adapter.task.labels
    if tuple(task.labels) != labels:
        raise D90Error(
            f"the adapter's classes are {', '.join(labels)} and those of '{task.name}' are "
            f"{', '.join(task.labels)}: give the task that it was trained on, or one like it."
        )


def _scores(task: Task, split: Split, predicted: Sequence[int]) -> SplitScores:
    names = metrics_of(len(task.labels))
    return SplitScores(
        rows=len(split),
        metrics={name: score(name, split.labels, predicted) for name in names},
        majority=majority_score(task.metric, split.labels),
    )
