"""What a model predicts on the splits of a task, and how good that is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from d90.data import Encoded, Padded, TokenisedTask, collate, evaluation_batches
from d90.tasks import score


@dataclass(frozen=True)
class Scores:
    """One evaluation.

    Attributes:
        metrics: every metric of every split, by `split/metric`; `train` is the training probe.
        classes: how many classes are predicted on the primary split; 1 says that the model has
            collapsed.
    """

    metrics: dict[str, float]
    classes: int


def evaluate(
    model: nn.Module, data: TokenisedTask, batch_size: int, accelerator: Accelerator
) -> Scores:
    """Measure every evaluation split and the training probe.

    Raises:
        FloatingPointError: a prediction is not finite.
    """
    metrics: dict[str, float] = {}
    classes = 0
    for name, split in {**data.evaluation, "train": data.probe}.items():
        batches = evaluation_batches(split.lengths, batch_size)
        predictions = predict(model, data, split, batches, accelerator)
        labels = split.labels[[row for rows in batches for row in rows]].tolist()
        if name == data.primary:
            classes = len(set(predictions))
        for metric in data.metrics:
            metrics[f"{name}/{metric}"] = score(metric, labels, predictions)
    return Scores(metrics, classes)


def predict(
    model: nn.Module,
    data: Padded,
    split: Encoded,
    batches: Sequence[Sequence[int]],
    accelerator: Accelerator,
) -> list[int]:
    """The class of each row, in the order of the batches; the model is left in evaluation mode.

    Raises:
        FloatingPointError: a prediction is not finite.
    """
    found = logits(model, data, split, batches, accelerator)
    return [label for part in found for label in part.argmax(-1).tolist()]


@torch.no_grad()
def logits(
    model: nn.Module,
    data: Padded,
    split: Encoded,
    batches: Iterable[Sequence[int]],
    accelerator: Accelerator,
) -> Iterator[Tensor]:
    """What the model says of each batch, shape (rows, classes); it is left in evaluation mode.

    Raises:
        FloatingPointError: a prediction is not finite.
    """
    model.eval()
    for rows in batches:
        inputs, _ = collate(data, split, rows, accelerator.device)
        with accelerator.autocast():
            found = model(**inputs).logits
        if not torch.isfinite(found).all():
            raise FloatingPointError("a prediction is not finite")
        yield found
