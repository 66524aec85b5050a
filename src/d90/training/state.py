"""The state of a training run between optimizer steps."""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass, field
from math import inf
from typing import Any

from d90.training.loop import LoopState
from d90.utils.reading import check_fields, check_keys

WINDOW = 20
"""Optimizer steps whose losses are averaged, to tell divergence from one bad batch."""


@dataclass(frozen=True)
class EpochResult:
    """The evaluation at the end of an epoch; `metrics` and `skills` as in `Scores`."""

    epoch: int
    step: int
    loss: float
    metric: float
    train_metric: float
    metrics: dict[str, float]
    has_collapsed: bool
    skills: dict[str, float] = field(default_factory=dict)

    def summary(self) -> dict[str, float]:
        """The entry of `TrialResult.history`."""
        names = ("epoch", "step", "loss", "metric", "train_metric")
        return {**{name: getattr(self, name) for name in names}, **self.skills}


@dataclass
class TrainState(LoopState):
    """The state of a fine-tuning run besides its tensors.

    Attributes:
        first_loss: of the first step.
        epoch_losses: of the steps since the last epoch ended.
        recent: losses of the last `WINDOW` steps.
        epochs: their evaluations.
        collapsed_at: the steps at which `TrainConfig.stop_hopeless` found it collapsed.
    """

    first_loss: float = 0.0
    epoch_losses: list[float] = field(default_factory=list)
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    epochs: list[EpochResult] = field(default_factory=list)
    collapsed_at: list[int] = field(default_factory=list)

    @property
    def best_epoch(self) -> int | None:
        """The index of the best epoch; the first in a tie."""
        order = range(len(self.epochs))
        return max(order, key=lambda i: self.epochs[i].metric) if self.epochs else None

    @property
    def best_skills(self) -> dict[str, float]:
        """The highest of each skill score, which may be of different epochs."""
        names = self.epochs[0].skills if self.epochs else ()
        return {name: max(epoch.skills.get(name, -inf) for epoch in self.epochs) for name in names}

    @property
    def last_metric(self) -> float | None:
        return self.epochs[-1].metric if self.epochs else None

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "recent": list(self.recent)}

    @classmethod
    def from_json(cls, values: Any) -> TrainState:
        required = ["step", "seconds", "epoch_losses", "recent", "epochs"]
        check_keys(values, {"epochs": tuple[Any, ...]}, required, "run")
        epochs = [
            EpochResult(**check_fields(EpochResult, epoch, "epochs")) for epoch in values["epochs"]
        ]
        found = check_fields(cls, {**values, "epochs": []}, "run")
        return cls(**{**found, "recent": deque(found["recent"], WINDOW), "epochs": epochs})
