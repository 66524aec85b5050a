"""A study: what is trained, and the protocol by which its d90 is searched."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from d90.experiments.measurable import Measurable
from d90.search.criteria import collapse_floor, has_score, quantity_name, scored
from d90.search.estimate import DEFAULT_EVALUATION_SIZE
from d90.search.protocols import Protocol, protocol_name
from d90.search.trial import TrialResult
from d90.storage.store import study_name


@dataclass(frozen=True)
class Study:
    """Which trials of a problem are run. A store identifies a study by its settings.

    Attributes:
        problem: what is trained: a model on a task (`Problem`), or a user's own (`Objective`).
        protocol: decides which trials to run.

    Raises:
        D90Error: there is no subspace of one of the protocol's dimensions.
    """

    problem: Measurable
    protocol: Protocol

    def __post_init__(self) -> None:
        size = self.problem.evaluation_size or DEFAULT_EVALUATION_SIZE
        bound = self.protocol.for_task(majority=self.problem.floor, evaluation_size=size)
        object.__setattr__(self, "protocol", bound)
        self.problem.check_dims(self.protocol.dimensions())

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that distinguishes this study from others, as JSON values."""
        protocol = {**self.protocol.settings(), "name": protocol_name(self.protocol)}
        return {**self.problem.settings, "protocol": json.loads(json.dumps(protocol))}

    def scored(self, results: Iterable[TrialResult]) -> list[TrialResult]:
        """Results as the protocol and the estimator see them: `metric` is the criterion's score."""
        problem = self.problem
        floor = collapse_floor(problem.majority, problem.reference)
        return scored(results, problem.criterion, floor)

    def has_score(self, result: TrialResult) -> bool:
        """Whether a result of another study has what this one needs."""
        return has_score(result, self.problem.criterion)

    @property
    def quantity(self) -> str:
        """What is measured: `d90`, or for another criterion than the paper's `d90[brier]`."""
        problem, protocol = self.problem, self.protocol
        return quantity_name(
            protocol.target_fraction, problem.criterion, problem.metric, protocol.criterion_of
        )

    @property
    def name(self) -> str:
        """Its name in a store."""
        return study_name(self.settings, self.prefix)

    @property
    def prefix(self) -> str:
        """The readable part of its name."""
        return self.problem.prefix
