"""A training run to make and its result.

This module imports no torch. Protocols, the estimator and reports work from these classes alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Status = Literal["ok", "collapsed", "stopped", "diverged", "failed"]


@dataclass(frozen=True, order=True)
class Trial:
    """One training run to make.

    Attributes:
        d: dimension of the subspace; None is full fine-tuning.
        learning_rate: as the user gave it; `d90.training.subspace_learning_rate` normalizes it.
        seed: of the run: it decides the projection, the data order and dropout.
    """

    d: int | None
    learning_rate: float
    seed: int = 0

    @property
    def is_full(self) -> bool:
        """Whether this is a full fine-tuning run, the baseline of d90."""
        return self.d is None

    @property
    def sort_key(self) -> tuple[int, float, int]:
        """Sorts trials by d, full fine-tuning first, then by learning rate and seed."""
        return self.d or 0, self.learning_rate, self.seed


@dataclass(frozen=True)
class TrialResult:
    """One finished training run.

    Attributes:
        trial: the run.
        status: `ok`; `collapsed` (its best evaluation predicts one class only: a failed run, which
            is excluded); `stopped` (the same after a quarter and half of its steps, and ended
            there); `diverged` (NaN or an exploding loss, ended early); `failed` (raised).
        metric: best value of the study's metric over the epochs, on the primary evaluation split.
        train_metric: the same metric on the training split, at that same epoch.
        seconds: wall time of the run.
        metrics: every metric at that epoch, by `split/metric`, and the mean losses
            (`split/brier`, `split/nll`).
        history: one mapping per epoch (`epoch`, `step`, `loss`, `metric`, `train_metric` and the
            skill scores).
        message: why it did not end as `ok`, in one line.
        skills: the best skill score over the epochs by each smooth criterion
            (`d90.search.criteria`): each at an epoch of its own.
    """

    trial: Trial
    status: Status
    metric: float | None = None
    train_metric: float | None = None
    seconds: float = 0.0
    metrics: Mapping[str, float] = field(default_factory=dict)
    history: tuple[Mapping[str, float], ...] = ()
    message: str = ""
    skills: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_valid(self) -> bool:
        """Whether the run counts: it trained, and its metric is known."""
        return self.status == "ok" and self.metric is not None

    def to_json(self) -> dict[str, Any]:
        """Strict JSON values: non-finite numbers become the strings `nan`, `inf` and `-inf`.

        >>> TrialResult(Trial(10, 0.01), "diverged", metric=float("nan")).to_json()["metric"]
        'nan'
        """
        values = asdict(self)
        for name in ("metric", "train_metric", "seconds"):
            values[name] = _to_json(values[name])
        for name in ("metrics", "skills"):
            values[name] = {key: _to_json(value) for key, value in values[name].items()}
        values["history"] = [
            {name: _to_json(value) for name, value in epoch.items()} for epoch in self.history
        ]
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> TrialResult:
        """The result that `to_json` wrote; one of a d90 without smooth criteria has no `skills`.

        >>> history = ({"epoch": 1, "loss": 0.7},)
        >>> result = TrialResult(Trial(10, 0.01), "ok", metric=0.5, history=history)
        >>> TrialResult.from_json(result.to_json()) == result
        True
        """
        return cls(
            trial=Trial(**values["trial"]),
            status=values["status"],
            metric=_from_json(values["metric"]),
            train_metric=_from_json(values["train_metric"]),
            seconds=_from_json(values["seconds"]) or 0.0,
            metrics={name: _from_json(value) for name, value in values["metrics"].items()},
            history=tuple(
                {name: _from_json(value) for name, value in epoch.items()}
                for epoch in values["history"]
            ),
            message=values["message"],
            skills={name: _from_json(value) for name, value in values.get("skills", {}).items()},
        )


def _to_json(value: Any) -> Any:
    if value is None or isinstance(value, int):
        return value
    value = float(value)
    return value if math.isfinite(value) else str(value)


def _from_json(value: Any) -> Any:
    return float(value) if isinstance(value, str) else value
