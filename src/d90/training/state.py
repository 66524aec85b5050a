"""What a run remembers from one update to the next, and what comes of it."""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass, field
from typing import Any

from d90.search.trial import Status

WINDOW = 20
"""Updates whose losses are kept, to tell an explosion from one bad batch."""


@dataclass(frozen=True)
class Outcome:
    """What came of a run, in the words of `d90.search.trial.Record`."""

    status: Status
    metric: float | None
    train_metric: float | None
    metrics: dict[str, float]
    history: tuple[dict[str, float], ...]
    seconds: float
    message: str = ""


@dataclass(frozen=True)
class EpochResult:
    """What the evaluation at the end of an epoch gave."""

    epoch: int
    step: int
    loss: float
    metric: float
    train_metric: float
    metrics: dict[str, float]
    classes: int

    def summary(self) -> dict[str, float]:
        """The line of the history."""
        names = ("epoch", "step", "loss", "metric", "train_metric")
        return {name: getattr(self, name) for name in names}


@dataclass
class TrainState:
    """What a run remembers from one update to the next, beside its tensors."""

    step: int = 0
    seconds: float = 0.0
    first_loss: float = 0.0
    epoch_losses: list[float] = field(default_factory=list)
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    epochs: list[EpochResult] = field(default_factory=list)

    @property
    def best_epoch(self) -> int | None:
        """The index of the best epoch, the first of equals."""
        order = range(len(self.epochs))
        return max(order, key=lambda i: self.epochs[i].metric) if self.epochs else None

    @property
    def last_metric(self) -> float | None:
        return self.epochs[-1].metric if self.epochs else None

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "recent": list(self.recent)}

    @classmethod
    def from_json(cls, state: dict[str, Any]) -> TrainState:
        epochs = [EpochResult(**epoch) for epoch in state["epochs"]]
        return cls(**{**state, "recent": deque(state["recent"], WINDOW), "epochs": epochs})
