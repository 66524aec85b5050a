"""Classification: one of k classes, by cross-entropy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from d90.search.criteria import SMOOTH
from d90.tasks.kinds.base import BatchPredictions, Kind, Predictions
from d90.tasks.labels import find_classes, is_missing
from d90.tasks.metrics import (
    METRICS,
    check_metric,
    constant_losses,
    majority_score,
    metrics_of,
    score,
)
from d90.tasks.tables import Tables


@dataclass(frozen=True)
class Classification(Kind):
    """Texts of k classes.

    The losses are `nll`, in nats, and `brier`, the squared distance between the probabilities and
    the label's (Brier 1950, summed over the classes).

    Attributes:
        labels: names of the classes, by class index.
    """

    labels: tuple[str, ...]

    name = "classification"
    needs = "a label that is an integer from 0 or a name"
    label = "class"
    metrics = METRICS
    criteria = SMOOTH
    losses = SMOOTH
    reference = "majority class"
    collapse = "predicts one class only"

    @classmethod
    def fits(cls, tables: Tables, column: str) -> bool:
        values = [value for value in tables.train.column(column) if not is_missing(value)]
        return not values or not all(isinstance(value, float) for value in values)

    @classmethod
    def read(cls, tables: Tables, column: str) -> tuple[tuple[str, ...], list[list[int]]]:
        classes = find_classes(tables, column)
        return classes.names, [classes.encode(table, column) for table in tables.all()]

    @classmethod
    def of(cls, labels: tuple[str, ...], options: Mapping[str, str]) -> Classification:
        return cls(labels)

    @property
    def available_metrics(self) -> tuple[str, ...]:
        return metrics_of(len(self.labels))

    def check_metric(self, metric: str | None) -> str:
        return check_metric("accuracy" if metric is None else metric, self.labels)

    def constant_score(self, metric: str, labels: Sequence[int]) -> float:
        return majority_score(metric, labels)

    @property
    def model_options(self) -> Mapping[str, Any]:
        return {"num_labels": len(self.labels), "labels": self.labels}

    def loss(self, model: nn.Module, inputs: Mapping[str, Tensor], labels: Tensor) -> Tensor:
        return cross_entropy(model(**inputs).logits.float(), labels, reduction="sum")

    @property
    def constant_loss(self) -> float:
        return math.log(len(self.labels))

    @property
    def value_dtype(self) -> torch.dtype:
        return torch.uint8 if len(self.labels) <= 256 else torch.int32

    def predict(
        self, model: nn.Module, inputs: Mapping[str, Tensor], labels: Tensor
    ) -> BatchPredictions:
        logits = model(**inputs).logits
        losses = _losses(logits.float(), labels)
        return BatchPredictions(logits.argmax(-1), losses, logits.isfinite().all())

    def score(self, metric: str, labels: Sequence[int], values: Sequence[int]) -> float:
        return score(metric, labels, values)

    def skills(self, labels: Sequence[int], predicted: Predictions) -> dict[str, float]:
        """`1 - loss / (loss of the class shares)`; none where all labels are equal."""
        constant = constant_losses(labels)
        return {k: 1 - predicted.losses[k] / constant[k] for k in SMOOTH if constant[k] > 0}

    def has_collapsed(self, values: Sequence[int], score: float) -> bool:
        return len(set(values)) == 1

    def interpret(self, logits: Tensor) -> NDArray[np.float64]:
        return logits.softmax(-1).numpy()

    def answers(self, outputs: NDArray[np.float64]) -> list[int]:
        return outputs.argmax(1).tolist()

    def to_row(self, outputs: Sequence[float]) -> dict[str, Any]:
        """The label and the probability of every class."""
        probabilities = zip(self.labels, outputs, strict=True)
        return {
            "label": self.labels[max(range(len(outputs)), key=outputs.__getitem__)],
            "probabilities": {label: round(value, 6) for label, value in probabilities},
        }


def _losses(logits: Tensor, labels: Tensor) -> Tensor:
    """The sum over the rows of each loss, in the order of `SMOOTH`; finite for finite logits."""
    log_p = logits.log_softmax(-1)
    nll = -log_p.gather(-1, labels[:, None]).sum()
    brier = (log_p.exp() - one_hot(labels, log_p.shape[-1])).square().sum()
    return torch.stack([brier, nll]).clamp(max=torch.finfo(torch.float32).max)
