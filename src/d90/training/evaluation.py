"""Predictions and metrics of a model on the splits of a task."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from d90.distributed.process_group import ProcessGroup
from d90.subspace import hold
from d90.tasks.kinds import Kind, Predictions
from d90.tasks.tokens import PaddingSpec, TokenizedSplit
from d90.training.data import TokenizedTask, evaluation_batches

NOT_FINITE = "a prediction is not finite"

OnRows = Callable[[int, int], None]
"""Called with the number of finished rows and of all rows."""


class Encoding(PaddingSpec, Protocol):
    """How the examples of a split were tokenized: what `TokenizedTask` has besides them."""

    @property
    def kind(self) -> Kind:
        """What the task asks of the model."""
        ...


@dataclass(frozen=True)
class Scores:
    """The metrics of one evaluation.

    Attributes:
        metrics: every metric of every split, by `split/metric`, and its mean losses, such as
            `split/nll`; `train` is `train_eval_subset`.
        skills: on the primary split, `1 - loss / (loss of a constant prediction)` for each smooth
            criterion; empty where all of its labels are equal.
        has_collapsed: whether the predictions on the primary split are as good as constant.
    """

    metrics: dict[str, float]
    skills: dict[str, float]
    has_collapsed: bool


ALONE = ProcessGroup()


def evaluate(
    model: nn.Module,
    data: TokenizedTask,
    batch_size: int,
    accelerator: Accelerator,
    process_group: ProcessGroup = ALONE,
) -> Scores:
    """Evaluate every evaluation split and `train_eval_subset`; the same result in every process.

    Raises:
        FloatingPointError: a prediction is not finite.
    """
    metrics: dict[str, float] = {}
    skills: dict[str, float] = {}
    has_collapsed = False
    for name, split in {**data.evaluation, "train": data.train_eval_subset}.items():
        labels, predicted = predict_split(
            model, data, split, batch_size, accelerator, process_group
        )
        scores = data.kind.scores(labels, predicted)
        metrics |= {f"{name}/{metric}": value for metric, value in scores.items()}
        if name == data.primary:
            skills = data.kind.skills(labels, predicted)
            has_collapsed = data.kind.has_collapsed(predicted.values, scores[data.metric])
    return Scores(metrics, skills, has_collapsed)


def predict_split(
    model: nn.Module,
    data: Encoding,
    split: TokenizedSplit,
    batch_size: int,
    accelerator: Accelerator,
    process_group: ProcessGroup = ALONE,
    on_rows: OnRows | None = None,
) -> tuple[list[Any], Predictions]:
    """The labels of a split, in the order of its batches, and its predictions.

    Raises:
        FloatingPointError: a prediction is not finite.
    """
    batches = evaluation_batches(split.lengths, batch_size)
    predicted = predict(model, data, split, batches, accelerator, process_group, on_rows)
    return split.labels[[row for rows in batches for row in rows]].tolist(), predicted


def predict(
    model: nn.Module,
    data: Encoding,
    split: TokenizedSplit,
    batches: Sequence[Sequence[int]],
    accelerator: Accelerator,
    process_group: ProcessGroup = ALONE,
    on_rows: OnRows | None = None,
) -> Predictions:
    """The prediction of each row and the mean losses; leaves the model in evaluation mode.

    Each process predicts its shard of the batches, and all processes return all predictions, which
    are read from the device once. The all-reduce sends the values of the rows (one byte each for up
    to 256 classes) and four bytes per batch and loss. The losses are the same for any number of
    processes.

    Raises:
        FloatingPointError: a prediction is not finite; in every process.
    """
    kind, device = data.kind, accelerator.device
    ends = torch.tensor([len(rows) for rows in batches]).cumsum(0).tolist()
    # Zeros where another process predicts.
    values = torch.zeros(ends[-1], dtype=kind.value_dtype, device=device)
    losses = torch.zeros(len(batches), len(kind.losses), device=device)
    is_wrong = torch.zeros(1, dtype=torch.bool, device=device)
    model.eval()
    with torch.no_grad(), hold(model):
        for i in process_group.shard(range(len(batches))):
            inputs, labels = kind.collate(data, split, batches[i], device)
            with accelerator.autocast():
                part = kind.predict(model, inputs, labels)
            values[ends[i] - len(batches[i]) : ends[i]] = part.values
            losses[i] = part.losses
            is_wrong |= ~part.is_finite
            if on_rows is not None:
                on_rows(ends[i], ends[-1])
    every_value, sums, wrong = _gather((values, losses, is_wrong), process_group)
    if wrong.any():
        raise FloatingPointError(NOT_FINITE)
    count = kind.count(split, [row for rows in batches for row in rows])
    means = (math.fsum(column) / count for column in sums.T.tolist())
    return Predictions(every_value.tolist(), dict(zip(kind.losses, means, strict=True)))


def _gather(parts: Sequence[Tensor], process_group: ProcessGroup) -> list[Tensor]:
    """The values over all processes: one all-reduce, and the device is read once.

    Every entry is zero in all processes but one, so that the largest bytes are its bytes.
    """
    packed = torch.cat([part.view(-1).view(torch.uint8) for part in parts])
    process_group.all_reduce_max(packed)
    data = np.array(packed.tolist(), np.uint8)
    sizes = [part.numel() * part.element_size() for part in parts]
    pieces = np.split(data, np.cumsum(sizes)[:-1])
    return [
        torch.from_numpy(piece.copy()).view(part.dtype).view(part.shape)
        for piece, part in zip(pieces, parts, strict=True)
    ]
