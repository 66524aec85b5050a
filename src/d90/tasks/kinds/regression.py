"""Regression: one number, by the squared error of standardized labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor, nn

from d90.errors import D90Error
from d90.tasks.kinds.base import BatchPredictions, Kind
from d90.tasks.labels import is_missing, parse_labels
from d90.tasks.tables import Tables

DIGITS = 6
"""Of the standard deviation, and of the mean in its unit: an adapter stores them as text."""

ROUNDING = 1e-3
"""Predictions that spread less than this, in standard deviations of the labels, are constant."""


def pearson(labels: Sequence[float], values: Sequence[float]) -> float:
    """The correlation of predictions with labels; 0 where either is constant.

    >>> round(pearson([1, 2, 3, 4], [1, 3, 2, 4]), 12), pearson([1, 2, 3, 4], [5, 5, 5, 5])
    (0.8, 0.0)
    """
    x, y = np.asarray(labels, dtype=float), np.asarray(values, dtype=float)
    if not np.ptp(x) or not np.ptp(y):
        return 0.0
    x, y = x - x.mean(), y - y.mean()
    return float(np.clip((x / np.linalg.norm(x)) @ (y / np.linalg.norm(y)), -1, 1))


def spearman(labels: Sequence[float], values: Sequence[float]) -> float:
    """The correlation of the ranks, ties at their mean rank; 0 where either is constant.

    >>> round(spearman([1, 2, 3, 4], [1, 10, 100, 1000]), 12)
    1.0
    """
    return pearson(rankdata(labels).tolist(), rankdata(values).tolist())


def r2(labels: Sequence[float], values: Sequence[float]) -> float:
    """The fraction of the variance of the labels that is explained, but at least -1.

    It is 0 for the mean of the labels, and for labels that are all equal.

    >>> r2([1, 2, 3, 4], [1, 2, 3, 5]), r2([1, 2, 3, 4], [90, 90, 90, 90])
    (0.8, -1.0)
    """
    x, y = np.asarray(labels, dtype=float), np.asarray(values, dtype=float)
    if not np.ptp(x):
        return 0.0
    return max(-1.0, float(1 - ((x - y) ** 2).sum() / ((x - x.mean()) ** 2).sum()))


METRICS: dict[str, Callable[[Sequence[float], Sequence[float]], float]] = {
    "pearson": pearson,
    "spearman": spearman,
    "r2": r2,
}


@dataclass(frozen=True)
class Regression(Kind):
    """Texts with a number each.

    The model predicts `(label - mean) / std`, both of the training labels. The loss that is
    reported is `mse`, in the square of the labels' unit.

    Attributes:
        mean, std: in the unit of the labels.
    """

    mean: float
    std: float

    name = "regression"
    needs = "a label that is a decimal number"
    label = "number"
    metrics = METRICS
    losses = ("mse",)
    label_dtype = torch.float64
    reference = "constant prediction"
    collapse = "is no better than a constant prediction"

    @classmethod
    def fits(cls, tables: Tables, column: str) -> bool:
        values = [value for value in tables.train.column(column) if not is_missing(value)]
        numbers = [number for number in map(_number, values) if number is not None]
        is_typed = {type(value) for value in values} in ({float}, {str})
        is_whole = all(number.is_integer() for number in numbers)
        return is_typed and len(numbers) == len(values) and not is_whole

    @classmethod
    def read(cls, tables: Tables, column: str) -> tuple[tuple[str, ...], list[list[float]]]:
        labels = [
            parse_labels(
                table,
                column,
                _number,
                problem=lambda value: f"{value!r:.40} is no finite number",
            )
            for table in tables.all()
        ]
        for table, numbers in zip(tables.all(), labels, strict=True):
            if len(set(numbers)) < 2:
                raise D90Error(
                    f"{table.where}: every number in column '{column}' is {numbers[0]:g}, and a "
                    "correlation needs two or more."
                )
        return (), labels

    @classmethod
    def options(cls, labels: Sequence[float]) -> dict[str, str]:
        with np.errstate(over="ignore"):  # What is not finite is refused by `of`.
            mean, std = float(np.mean(labels)), float(np.std(labels))
        ahead = math.ceil(math.log10(abs(mean) / std)) if abs(mean) > std > 0 else 0
        return {"mean": f"{mean:.{DIGITS + ahead}g}", "std": f"{std:.{DIGITS}g}"}

    @classmethod
    def of(cls, labels: tuple[str, ...], options: Mapping[str, str]) -> Regression:
        numbers = {name: _number(value) for name, value in options.items()}
        mean, std = numbers.get("mean"), numbers.get("std")
        if labels or len(numbers) > 2 or mean is None or not std or std < 0:
            raise D90Error(f"options of a regression: expected mean and std, got {dict(options)}.")
        return cls(mean, std)

    def constant_score(self, metric: str, labels: Sequence[float]) -> float:
        """0: of the mean of the labels by r2, and by convention of any constant's correlation."""
        return 0.0

    @property
    def model_options(self) -> Mapping[str, Any]:
        return {"num_labels": 1, "labels": ("LABEL_0",)}

    @property
    def merged_config(self) -> Mapping[str, Any]:
        """By which a prediction is `logits * label_std + label_mean`."""
        return {"label_mean": self.mean, "label_std": self.std}

    def loss(self, model: nn.Module, inputs: Mapping[str, Tensor], labels: Tensor) -> Tensor:
        predicted = model(**inputs).logits.float().squeeze(-1)
        return (predicted - ((labels - self.mean) / self.std).float()).square().sum()

    @property
    def constant_loss(self) -> float:
        return 1.0

    @property
    def value_dtype(self) -> torch.dtype:
        return torch.float64

    def predict(
        self, model: nn.Module, inputs: Mapping[str, Tensor], labels: Tensor
    ) -> BatchPredictions:
        values = model(**inputs).logits.double().squeeze(-1) * self.std + self.mean
        mse = (values - labels).square().sum().clamp(max=torch.finfo(torch.float32).max)
        return BatchPredictions(values, mse[None], values.isfinite().all())

    def score(self, metric: str, labels: Sequence[float], values: Sequence[float]) -> float:
        return METRICS[metric](labels, values)

    def has_collapsed(self, values: Sequence[float], score: float) -> bool:
        return score <= 0 or float(np.std(values)) < ROUNDING * self.std

    def interpret(self, logits: Tensor) -> NDArray[np.float64]:
        return (logits * self.std + self.mean).numpy()

    def answers(self, outputs: NDArray[np.float64]) -> list[float]:
        return outputs[:, 0].tolist()

    def to_row(self, outputs: Sequence[float]) -> dict[str, Any]:
        """The number."""
        return {"prediction": round(outputs[0], 6)}


def _number(value: Any) -> float | None:
    """A finite number, also from text as in CSV; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
