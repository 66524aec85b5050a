"""Metrics from scikit-learn: nothing is downloaded at run time."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from sklearn.metrics import accuracy_score, f1_score

from d90.errors import D90Error, unknown_name

# A class that is never predicted has an F1 of 0; scikit-learn's type stubs only know the default.
_NO_WARNING: dict[str, Any] = {"zero_division": 0.0}

METRICS: dict[str, Callable[[Sequence[int], Sequence[int]], float]] = {
    "accuracy": accuracy_score,
    "f1": partial(f1_score, average="binary", pos_label=1, **_NO_WARNING),
    "macro_f1": partial(f1_score, average="macro", **_NO_WARNING),
}


def score(metric: str, labels: Sequence[int], predictions: Sequence[int]) -> float:
    """The metric of the predictions, a fraction; `f1` is that of class 1.

    >>> score("accuracy", [0, 1, 1, 1], [0, 1, 1, 0])
    0.75

    Raises:
        D90Error: unknown metric.
    """
    if metric not in METRICS:
        raise unknown_name("metric", metric, METRICS)
    return float(METRICS[metric](labels, predictions))


def majority_score(metric: str, labels: Sequence[int]) -> float:
    """The score of the best constant predictor.

    For accuracy this is the fraction of the most frequent class. For f1 it is that of always
    predicting 1: 2 p / (1 + p), where p is the fraction of class 1.

    >>> majority_score("accuracy", [0, 0, 0, 1])
    0.75
    >>> majority_score("f1", [0, 0, 0, 1])
    0.4

    Raises:
        D90Error: unknown metric.
    """
    return max(score(metric, labels, [label] * len(labels)) for label in set(labels))


def constant_losses(labels: Sequence[int]) -> dict[str, float]:
    """The Brier score and the log-loss, in nats, of predicting the shares of the classes.

    No constant prediction has less of either.

    >>> constant_losses([0, 0, 1, 1])
    {'brier': 0.5, 'nll': 0.6931471805599453}
    """
    shares = [count / len(labels) for count in Counter(labels).values()]
    return {
        "brier": 1 - sum(share**2 for share in shares),
        "nll": -sum(share * math.log(share) for share in shares),
    }


def metrics_of(classes: int) -> tuple[str, ...]:
    """The metrics defined for this number of classes.

    >>> metrics_of(3)
    ('accuracy', 'macro_f1')
    """
    return tuple(name for name in METRICS if name != "f1" or classes == 2)


def check_metric(metric: str, classes: Sequence[str]) -> str:
    """Validate a metric for a task with these classes, and return it.

    Raises:
        D90Error: unknown metric; `f1` for more than two classes.
    """
    if metric not in METRICS:
        raise unknown_name("metric", metric, METRICS)
    if metric == "f1" and len(classes) > 2:
        raise D90Error(
            f"metric 'f1' is for two classes and this task has {len(classes)}: "
            "use 'macro_f1' or 'accuracy'."
        )
    return metric
