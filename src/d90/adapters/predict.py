"""What a model with a task file says of texts, and how good that is on a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from accelerate import Accelerator
from numpy.typing import NDArray

from d90.adapters import Adapter
from d90.adapters.model import AdapterModel
from d90.errors import D90Error
from d90.tasks import Split, Task, majority_score, metrics_of, score
from d90.training.data import evaluation_batches, tokenize_texts
from d90.training.evaluation import logits

BATCH = 64

OnRows = Callable[[int, int], None]
"""Told of the rows done, and of all."""


@dataclass(frozen=True)
class SplitScores:
    """How good a model is on one split.

    Attributes:
        rows: of the split.
        metrics: by name, fractions.
        majority: of the task's metric, for the best constant predictor.
    """

    rows: int
    metrics: Mapping[str, float]
    majority: float


def predict_probabilities(
    model: AdapterModel,
    texts: Sequence[tuple[str, ...]],
    *,
    batch_size: int = BATCH,
    on_rows: OnRows | None = None,
) -> NDArray[np.float64]:
    """The probability of each class, shape (texts, classes); texts are cut as in training.

    Args:
        model: from `d90.load`.
        texts: one or two a row, as the task has text columns.
        batch_size: rows a forward pass.
        on_rows: told of the progress.

    Raises:
        D90Error: a row with another number of texts, or with no token in it; a prediction that is
            not finite.
    """
    if model.adapter is None:
        raise D90Error("the model is its base, without a task: call model.switch(file) first.")
    use = model.adapter.task
    for number, row in enumerate(texts, 1):
        if len(row) != len(use.text_columns):
            raise D90Error(
                f"row {number} has {len(row)} texts: the task '{use.name}' is on "
                f"{' and '.join(use.text_columns)}."
            )
    found = np.zeros((len(texts), len(use.labels)))
    data = tokenize_texts(texts, model.tokenizer, max_length=use.max_length)
    batches = evaluation_batches(data.split.lengths, batch_size)
    accelerator = Accelerator(mixed_precision="no", cpu=model.device.type == "cpu")
    done = 0
    try:
        parts = logits(model, data, data.split, batches, accelerator)
        for rows, part in zip(batches, parts, strict=True):
            found[rows] = part.double().softmax(-1).cpu().numpy()
            done += len(rows)
            if on_rows is not None:
                on_rows(done, len(texts))
    except FloatingPointError as error:
        raise D90Error(f"{error}: the weights of this file overflow on this text.") from error
    return found


def predict(
    model: AdapterModel, split: Split, *, batch_size: int = BATCH, on_rows: OnRows | None = None
) -> list[int]:
    """The most probable class of each row.

    Raises:
        D90Error: as `probabilities`.
    """
    found = predict_probabilities(model, split.texts, batch_size=batch_size, on_rows=on_rows)
    return found.argmax(1).tolist()


def evaluate(
    model: AdapterModel, task: Task, *, batch_size: int = BATCH, on_rows: OnRows | None = None
) -> dict[str, SplitScores]:
    """Every metric on every evaluation split of a task.

    Raises:
        D90Error: a task with other classes than the file's; as `probabilities`.
    """
    if model.adapter is not None:
        check_classes(model.adapter, task)
    found = {}
    for name, split in task.evaluation.items():
        predicted = predict(model, split, batch_size=batch_size, on_rows=on_rows)
        found[name] = _scores(task, split, predicted)
    return found


def check_classes(file: Adapter, task: Task) -> None:
    """Refuse a task with other classes than a file's.

    Raises:
        D90Error: naming both.
    """
    labels = file.task.labels
    if tuple(task.labels) != labels:
        raise D90Error(
            f"the file's classes are {', '.join(labels)} and those of '{task.name}' are "
            f"{', '.join(task.labels)}: give the task that it was trained on, or one like it."
        )


def _scores(task: Task, split: Split, predicted: Sequence[int]) -> SplitScores:
    names = metrics_of(len(task.labels))
    return SplitScores(
        rows=len(split),
        metrics={name: score(name, split.labels, predicted) for name in names},
        majority=majority_score(task.metric, split.labels),
    )
