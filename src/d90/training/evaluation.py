"""Predictions and metrics of a model on the splits of a task."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.functional import one_hot

from d90.distributed.process_group import ProcessGroup
from d90.search.criteria import SMOOTH
from d90.subspace import hold
from d90.tasks import constant_losses, score
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
        metrics: every metric of every split, by `split/metric`, and its mean losses, as
            `split/nll` and `split/brier`; `train` is `train_eval_subset`.
        skills: on the primary split, `1 - loss / (loss of the class shares)` for each smooth
            criterion; empty where all of its labels are equal.
        classes: number of classes predicted on the primary split; 1 means that the model has
            collapsed.
    """

    metrics: dict[str, float]
    skills: dict[str, float]
    classes: int


@dataclass(frozen=True)
class Predictions:
    """Predictions of the rows of a split.

    Attributes:
        classes: of each row, in the order of the batches.
        losses: mean over the rows: `nll`, in nats, and `brier`, the squared distance between the
            probabilities and the label's (Brier 1950, summed over the classes).
    """

    classes: list[int]
    losses: Mapping[str, float]


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
    classes = 0
    for name, split in {**data.evaluation, "train": data.train_eval_subset}.items():
        batches = evaluation_batches(split.lengths, batch_size)
        predicted = predict(model, data, split, batches, accelerator, process_group)
        labels = split.labels[[row for rows in batches for row in rows]].tolist()
        if name == data.primary:
            classes = len(set(predicted.classes))
            constant = constant_losses(labels)
            skills = {k: 1 - predicted.losses[k] / constant[k] for k in SMOOTH if constant[k] > 0}
        for metric in data.metrics:
            metrics[f"{name}/{metric}"] = score(metric, labels, predicted.classes)
        metrics |= {f"{name}/{k}": loss for k, loss in predicted.losses.items()}
    return Scores(metrics, skills, classes)


def predict(
    model: nn.Module,
    data: TokenizedTask,
    split: TokenizedSplit,
    batches: Sequence[Sequence[int]],
    accelerator: Accelerator,
    process_group: ProcessGroup = ALONE,
) -> Predictions:
    """The class of each row and the mean losses; leaves the model in evaluation mode.

    Each process predicts its shard of the batches, and all processes return all predictions, which
    are read from the device once. The all-reduce sends one byte per row, or four with more than
    256 classes, and eight per batch. The losses are the same for any number of processes.

    Raises:
        FloatingPointError: a prediction is not finite; in every process.
    """
    dtype = torch.uint8 if len(data.classes) <= 256 else torch.int32
    ends = torch.tensor([len(rows) for rows in batches]).cumsum(0).tolist()
    # Zeros where another process predicts; the last entry is set when a prediction is not finite.
    predictions = torch.zeros(ends[-1] + 1, dtype=dtype, device=accelerator.device)
    losses = torch.zeros(len(batches), len(SMOOTH), device=accelerator.device)
    indices = process_group.shard(range(len(batches)))
    parts = outputs(model, data, split, [batches[i] for i in indices], accelerator)
    is_wrong = predictions[-1]
    with torch.no_grad(), hold(model):
        for i, (part, labels) in zip(indices, parts, strict=True):
            predictions[ends[i] - len(batches[i]) : ends[i]] = part.argmax(-1).to(dtype)
            losses[i] = _losses(part.float(), labels)
            is_wrong |= ~part.isfinite().all()
    (*classes, wrong), sums = _gather(predictions, losses, process_group)
    if wrong:
        raise FloatingPointError(NOT_FINITE)
    means = (math.fsum(column) / ends[-1] for column in sums.T.tolist())
    return Predictions(classes, dict(zip(SMOOTH, means, strict=True)))


def _losses(logits: Tensor, labels: Tensor) -> Tensor:
    """The sum over the rows of each loss, in the order of `SMOOTH`; finite for finite logits."""
    log_p = logits.log_softmax(-1)
    nll = -log_p.gather(-1, labels[:, None]).sum()
    brier = (log_p.exp() - one_hot(labels, log_p.shape[-1])).square().sum()
    return torch.stack([brier, nll]).clamp(max=torch.finfo(torch.float32).max)


def _gather(
    predictions: Tensor, losses: Tensor, process_group: ProcessGroup
) -> tuple[list[int], np.ndarray]:
    """The values of both, over all processes: one all-reduce, and the device is read once.

    Every entry is zero in all processes but one, so that the largest bytes are its bytes.
    """
    packed = torch.cat([part.view(-1).view(torch.uint8) for part in (predictions, losses)])
    process_group.all_reduce_max(packed)
    data = bytes(packed.tolist())
    size = predictions.numel() * predictions.element_size()
    kind = np.uint8 if predictions.dtype == torch.uint8 else np.int32
    classes = np.frombuffer(data[:size], kind).tolist()
    return classes, np.frombuffer(data[size:], np.float32).reshape(losses.shape)


@torch.no_grad()
def outputs(
    model: nn.Module,
    data: PaddingSpec,
    split: TokenizedSplit,
    batches: Iterable[Sequence[int]],
    accelerator: Accelerator,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Logits, shape (rows, classes), and labels of each batch; leaves the model in evaluation mode.

    Nothing is read from the device, so values may not be finite.
    """
    model.eval()
    for rows in batches:
        inputs, labels = collate(data, split, rows, accelerator.device)
        with accelerator.autocast():
            yield model(**inputs).logits, labels
