"""Predictions and metrics of a model on the splits of a task."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from d90.distributed.process_group import ProcessGroup
from d90.subspace import hold
from d90.tasks import score
from d90.training.data import (
    PaddingSpec,
    TokenizedSplit,
    TokenizedTask,
    collate,
    evaluation_batches,
)

NOT_FINITE = "a prediction is not finite"


@dataclass(frozen=True)
class Scores:
    """The metrics of one evaluation.

    Attributes:
        metrics: every metric of every split, by `split/metric`; `train` is `train_eval_subset`.
        classes: number of classes predicted on the primary split; 1 means that the model has
            collapsed.
    """

    metrics: dict[str, float]
    classes: int


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
    classes = 0
    for name, split in {**data.evaluation, "train": data.train_eval_subset}.items():
        batches = evaluation_batches(split.lengths, batch_size)
        predictions = predict(model, data, split, batches, accelerator, process_group)
        labels = split.labels[[row for rows in batches for row in rows]].tolist()
        if name == data.primary:
            classes = len(set(predictions))
        for metric in data.metrics:
            metrics[f"{name}/{metric}"] = score(metric, labels, predictions)
    return Scores(metrics, classes)


def predict(
    model: nn.Module,
    data: TokenizedTask,
    split: TokenizedSplit,
    batches: Sequence[Sequence[int]],
    accelerator: Accelerator,
    process_group: ProcessGroup = ALONE,
) -> list[int]:
    """The class of each row, in the order of the batches; leaves the model in evaluation mode.

    Each process predicts its shard of the batches, and all processes return all predictions, which
    are read from the device once. The all-reduce sends one byte per row, or four with more than
    256 classes.

    Raises:
        FloatingPointError: a prediction is not finite; in every process.
    """
    dtype = torch.uint8 if len(data.classes) <= 256 else torch.int32
    ends = torch.tensor([len(rows) for rows in batches]).cumsum(0).tolist()
    # Zeros where another process predicts; the last entry is set when a prediction is not finite.
    predictions = torch.zeros(ends[-1] + 1, dtype=dtype, device=accelerator.device)
    indices = process_group.shard(range(len(batches)))
    parts = logits(model, data, split, [batches[i] for i in indices], accelerator)
    is_wrong = predictions[-1]
    with torch.no_grad(), hold(model):
        for i, part in zip(indices, parts, strict=True):
            predictions[ends[i] - len(batches[i]) : ends[i]] = part.argmax(-1).to(dtype)
            is_wrong |= ~part.isfinite().all()
    process_group.all_reduce_max(predictions)
    *classes, wrong = predictions.tolist()
    if wrong:
        raise FloatingPointError(NOT_FINITE)
    return classes


@torch.no_grad()
def logits(
    model: nn.Module,
    data: PaddingSpec,
    split: TokenizedSplit,
    batches: Iterable[Sequence[int]],
    accelerator: Accelerator,
) -> Iterator[Tensor]:
    """The logits of each batch, shape (rows, classes); leaves the model in evaluation mode.

    Nothing is read from the device, so values may not be finite.
    """
    model.eval()
    for rows in batches:
        inputs, _ = collate(data, split, rows, accelerator.device)
        with accelerator.autocast():
            yield model(**inputs).logits
