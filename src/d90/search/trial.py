"""What is asked of a training run and what came of it: the words every other room shares.

No torch here: protocols, estimators and reports work from these records alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Status = Literal["ok", "collapsed", "diverged", "failed"]


@dataclass(frozen=True, order=True)
class Trial:
    """One training run to make.

    Attributes:
        d: dimension of the subspace; None is full fine-tuning.
        learning_rate: as the user gave it (how it is normalized in d: `d90.training`).
        seed: seed of the projection and of the data order.
    """

    d: int | None
    learning_rate: float
    seed: int = 0

    @property
    def is_full(self) -> bool:
        """Whether this is a full fine-tuning run, the baseline of d90."""
        return self.d is None


@dataclass(frozen=True)
class TrialResult:
    """One finished training run.

    Attributes:
        trial: what was asked.
        status: `ok`; `collapsed` (its best evaluation predicts one class only: a failed run, not
            a data point); `diverged` (NaN or an exploding loss, ended early); `failed` (raised).
        metric: best value of the study's metric over the epochs, on the primary evaluation split.
        train_metric: the same metric on the training split, at that same epoch.
        seconds: wall time of the run.
        metrics: every metric at that epoch, by `split/metric`.
        history: one mapping an epoch (`epoch`, `step`, `loss`, `metric`, `train_metric`).
        message: why it did not end as `ok`, in one line.
    """

    trial: Trial
    status: Status
    metric: float | None = None
    train_metric: float | None = None
    seconds: float = 0.0
    metrics: Mapping[str, float] = field(default_factory=dict)
    history: tuple[Mapping[str, float], ...] = ()
    message: str = ""

    @property
    def is_valid(self) -> bool:
        """Whether the run is a data point: it trained, and its metric is known."""
        return self.status == "ok" and self.metric is not None
