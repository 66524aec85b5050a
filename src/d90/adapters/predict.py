"""Predictions of a model with an adapter, and its metrics on a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray

from d90.adapters import Adapter, TaskInfo
from d90.adapters.adapter import check_generates
from d90.adapters.model import AdapterModel
from d90.errors import D90Error
from d90.models.loading import guarded, longest_input
from d90.tasks import Kind, Split, Task, kind_of
from d90.tasks.kinds import Predictions
from d90.tasks.tokens import TokenizedSplit, collate
from d90.training.data import evaluation_batches, tokenize_examples
from d90.training.evaluation import NOT_FINITE, OnRows, predict_split

BATCH = 64

OVERFLOW = f"{NOT_FINITE}: the weights of this adapter overflow on this text."


@dataclass(frozen=True)
class SplitScores:
    """The metrics of a model on one split.

    Attributes:
        rows: number of rows of the split.
        metrics: by name, fractions.
        losses: the kind's mean losses, by name.
        majority: of the task's metric, for the best constant predictor; for the pretrained model
            where that is scored (`Kind.starts_from_model`).
    """

    rows: int
    metrics: Mapping[str, float]
    losses: Mapping[str, float]
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
            is not finite; an adapter of generation.
    """
    task = task_of(model)
    check_generates(task, expected=False)
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
    accelerator = _accelerator(model)
    done = 0
    model.eval()
    for rows in evaluation_batches(data.split.lengths, batch_size):
        inputs, _ = collate(data, data.split, rows, accelerator.device)
        with torch.no_grad(), accelerator.autocast():
            logits = model(**inputs).logits.double().cpu()
        if not logits.isfinite().all():
            raise D90Error(OVERFLOW)
        found[rows] = kind.interpret(logits)
        done += len(rows)
        if on_rows is not None:
            on_rows(done, len(examples))
    return found


def _accelerator(model: AdapterModel) -> Accelerator:
    """Predicts where the model is."""
    return Accelerator(mixed_precision="no", cpu=model.device.type == "cpu")


def task_of(model: AdapterModel) -> TaskInfo:
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
    return kind_of(task_of(model)).answers(outputs)


def evaluate(
    model: AdapterModel, task: Task, *, batch_size: int = BATCH, on_rows: OnRows | None = None
) -> dict[str, SplitScores]:
    """Every metric on every evaluation split of a task.

    Raises:
        D90Error: a task of another kind or classes than the adapter's, or with a metric that is not
            defined for it; an example without tokens, or of generation with too many; a prediction
            that is not finite.
    """
    info, adapter = task_of(model), model.adapter
    assert adapter is not None
    check_task(adapter, task)
    tokenizer = model.tokenizer
    # The adapter's kind, not the task's: its scale of numbers, or its pattern of answers.
    kind = kind_of(info).on(model, tokenizer, longest_input(model, tokenizer))
    kind.check_metric(task.metric)
    if kind.starts_from_model:
        with guarded(model.base.name):
            kind = kind.from_train(kind.encode(tokenizer, task.train, "train", info.max_length))
    scores = {}
    for name, split in task.evaluation.items():
        with guarded(model.base.name):
            rows = kind.encode(tokenizer, split, name, info.max_length)
        labels, predicted = _predicted(model, kind, rows, batch_size, on_rows)
        if kind.starts_from_model:
            model.switch(None)
            try:
                initial = _predicted(model, kind, rows, batch_size, on_rows)
                kind = kind.from_initial(rows, *initial)
            finally:
                model.switch(adapter)
        initial = kind.initial_scores
        scores[name] = SplitScores(
            rows=len(split),
            metrics={m: kind.score(m, labels, predicted.values) for m in kind.available_metrics},
            losses=predicted.losses,
            majority=initial[task.metric] if initial else kind.constant_score(task.metric, labels),
        )
    return scores


@dataclass(frozen=True)
class _Encoding:
    """How examples were tokenized (`d90.training.evaluation.Encoding`)."""

    kind: Kind
    padding: Mapping[str, int]
    padding_side: str


def _predicted(
    model: AdapterModel, kind: Kind, split: TokenizedSplit, batch_size: int, on_rows: OnRows | None
) -> tuple[list[Any], Predictions]:
    """The labels of a split, in the order of its batches, and its predictions."""
    tokenizer = model.tokenizer
    encoding = _Encoding(kind, kind.padding(tokenizer), tokenizer.padding_side)
    accelerator = _accelerator(model)
    try:
        return predict_split(model, encoding, split, batch_size, accelerator, on_rows=on_rows)
    except FloatingPointError as error:
        raise D90Error(OVERFLOW) from error


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
