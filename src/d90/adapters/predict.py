"""Predictions of a model with an adapter, and its metrics on a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray

from d90.adapters import Adapter, TaskInfo
from d90.adapters.model import AdapterModel
from d90.errors import D90Error
from d90.models.loading import guarded
from d90.tasks import Split, Task, kind_of
from d90.tasks.tokens import collate
from d90.training.data import evaluation_batches, tokenize_examples
from d90.training.evaluation import NOT_FINITE

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


def predict_outputs(
    model: AdapterModel,
    examples: Sequence[tuple[str, ...]],
    *,
    batch_size: int = BATCH,
    on_rows: OnRows | None = None,
) -> NDArray[np.float64]:
    """What the model predicts, as `Kind.interpret` gives it; truncated as in training.

    Args:
        model: from `d90.load`.
        examples: one text per text column of the task, in each.
        batch_size: rows per forward pass.
        on_rows: called after each batch.

    Returns:
        The probability of each class, shape (examples, classes), or for a task of regression the
        number, shape (examples, 1).

    Raises:
        D90Error: an example with the wrong number of texts, or without tokens; a prediction that
            is not finite.
    """
    task = _task_of(model)
    for number, row in enumerate(examples, 1):
        if len(row) != len(task.text_columns):
            raise D90Error(
                f"row {number} has {len(row)} texts: the task '{task.name}' has "
                f"{' and '.join(task.text_columns)}."
            )
    kind = kind_of(task)
    found = np.zeros((len(examples), kind.model_options["num_labels"]))
    with guarded(model.base.name):
        data = tokenize_examples(examples, model.tokenizer, max_length=task.max_length)
    accelerator = Accelerator(mixed_precision="no", cpu=model.device.type == "cpu")
    done = 0
    model.eval()
    for rows in evaluation_batches(data.split.lengths, batch_size):
        inputs, _ = collate(data, data.split, rows, accelerator.device)
        with torch.no_grad(), accelerator.autocast():
            logits = model(**inputs).logits.double().cpu()
        if not logits.isfinite().all():
            raise D90Error(f"{NOT_FINITE}: the weights of this adapter overflow on this text.")
        found[rows] = kind.interpret(logits)
        done += len(rows)
        if on_rows is not None:
            on_rows(done, len(examples))
    return found


def _task_of(model: AdapterModel) -> TaskInfo:
    if model.adapter is None:
        raise D90Error("the model is its base, without a task: call model.switch(adapter) first.")
    return model.adapter.task


def predict(
    model: AdapterModel, split: Split, *, batch_size: int = BATCH, on_rows: OnRows | None = None
) -> list[Any]:
    """The prediction of each row: its most probable class, or a number.

    Raises:
        D90Error: as `predict_outputs`.
    """
    outputs = predict_outputs(model, split.texts, batch_size=batch_size, on_rows=on_rows)
    return kind_of(_task_of(model)).answers(outputs)


def evaluate(
    model: AdapterModel, task: Task, *, batch_size: int = BATCH, on_rows: OnRows | None = None
) -> dict[str, SplitScores]:
    """Every metric on every evaluation split of a task.

    Raises:
        D90Error: a task of another kind or classes than the adapter's; as `predict_outputs`.
    """
    if model.adapter is not None:
        check_task(model.adapter, task)
    scores = {}
    for name, split in task.evaluation.items():
        predicted = predict(model, split, batch_size=batch_size, on_rows=on_rows)
        scores[name] = _scores(task, split, predicted)
    return scores


def check_task(adapter: Adapter, task: Task) -> None:
    """Refuse a task whose kind or classes are not the adapter's.

    Raises:
        D90Error: naming both.
    """
    info = adapter.task
    if task.kind != info.kind:
        raise D90Error(
            f"the adapter is of {info.kind} and the task '{task.name}' of {task.kind}: give the "
            "task that it was trained on, or one like it."
        )
    if tuple(task.labels) != info.labels:
        raise D90Error(
            f"the adapter's classes are {', '.join(info.labels)} and those of '{task.name}' are "
            f"{', '.join(task.labels)}: give the task that it was trained on, or one like it."
        )


def _scores(task: Task, split: Split, predicted: Sequence[Any]) -> SplitScores:
    kind = kind_of(task)
    return SplitScores(
        rows=len(split),
        metrics={m: kind.score(m, split.labels, predicted) for m in kind.available_metrics},
        majority=kind.constant_score(task.metric, split.labels),
    )
