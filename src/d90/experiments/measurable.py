"""What d90 can be measured of: all that a study knows of what is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from d90.executors import Runner
from d90.search.trial import Trial


class Measurable(Protocol):
    """A model on a task (`Problem`), or a user's own training (`Objective`)."""

    @property
    def runner(self) -> Runner:
        """Runs its trials."""
        ...

    @property
    def D(self) -> int | None:
        """Number of parameters that full fine-tuning trains; None if unknown."""
        ...

    @property
    def metric(self) -> str:
        """Name of the metric that trials have."""
        ...

    @property
    def criterion(self) -> str:
        """What trials are scored by: the metric, or one of `d90.search.criteria.SMOOTH`."""
        ...

    @property
    def majority(self) -> float:
        """The metric without training, of the best constant predictor for example."""
        ...

    @property
    def reference(self) -> str:
        """What `majority` is the metric of, such as `majority class`."""
        ...

    @property
    def floor(self) -> float:
        """The score by the criterion without training."""
        ...

    @property
    def floor_reference(self) -> str:
        """What `floor` is the score of."""
        ...

    @property
    def evaluation_size(self) -> int | None:
        """Number of examples that the metric is over; None if it is over none."""
        ...

    @property
    def has_binomial_noise(self) -> bool:
        """Whether the noise of a score is of the size of an accuracy's over as many examples."""
        ...

    @property
    def settings(self) -> Mapping[str, Any]:
        """What identifies its studies in a store, besides the protocol, as JSON values."""
        ...

    @property
    def shared_settings(self) -> Sequence[str]:
        """Names of the settings that studies share whose trials may have the same keys."""
        ...

    @property
    def facts(self) -> Mapping[str, Any]:
        """Values that a store keeps with its studies for readers, as JSON values."""
        ...

    @property
    def prefix(self) -> str:
        """The readable part of its studies' names in a store."""
        ...

    @property
    def title(self) -> str:
        """What it is, in one line, for the display."""
        ...

    def key(self, trial: Trial) -> str:
        """A digest of everything that decides the result of the trial, in any study."""
        ...

    def check_dims(self, dims: Sequence[int]) -> None:
        """Check that there are subspaces of these dimensions.

        Raises:
            D90Error: there are none.
        """
        ...

    def description(self) -> dict[str, Any]:
        """Fields of `d90.search.summary.Summary` that say what is trained."""
        ...
