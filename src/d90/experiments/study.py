"""A study: a problem, and the protocol by which its d90 is searched."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from d90.experiments.problem import Problem
from d90.search.criteria import has_score, quantity_name, scored
from d90.search.protocols import Protocol, protocol_name
from d90.search.trial import TrialResult
from d90.storage.store import study_name
from d90.training import TrainConfig
from d90.training.config import EXPONENTS, REFERENCE_D


@dataclass(frozen=True)
class Study:
    """Which trials of a problem are run. A store identifies a study by its settings.

    Attributes:
        problem: what is fine-tuned.
        protocol: decides which trials to run.

    Raises:
        D90Error: the model has no subspace of one of the protocol's dimensions.
    """

    problem: Problem
    protocol: Protocol

    def __post_init__(self) -> None:
        sizes = self.problem.examples
        bound = self.protocol.for_task(majority=self.problem.floor, evaluation_size=sizes["metric"])
        object.__setattr__(self, "protocol", bound)
        self.problem.check_dims(self.protocol.dimensions())

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that distinguishes this study from others, as JSON values."""
        problem, runner = self.problem, self.problem.runner
        protocol = {**self.protocol.settings(), "name": protocol_name(self.protocol)}
        return {
            "model": problem.model_name,
            "task": problem.task.name,
            "max_length": problem.max_length,
            **problem.identity,
            "subspace": problem.subspace.names(),
            "training": _training_settings(runner.config, runner.precision),
            "baseline_training": _training_settings(runner.baseline_config, runner.precision),
            "normalization": {
                "reference_d": REFERENCE_D,
                "exponent": EXPONENTS[runner.config.optimizer],
            },
            "criterion": problem.criterion,
            "protocol": json.loads(json.dumps(protocol)),
        }

    def scored(self, results: Iterable[TrialResult]) -> list[TrialResult]:
        """Results as the protocol and the estimator see them: `metric` is the criterion's score."""
        return scored(results, self.problem.criterion)

    def has_score(self, result: TrialResult) -> bool:
        """Whether a result of another study has what this one needs."""
        return has_score(result, self.problem.criterion)

    @property
    def quantity(self) -> str:
        """What is measured: `d90`, or for another criterion than the paper's `d90[brier]`."""
        problem, protocol = self.problem, self.protocol
        return quantity_name(
            protocol.target_fraction,
            problem.criterion,
            problem.task.metric,
            protocol.criterion_of,
        )

    @property
    def name(self) -> str:
        """Its name in a store."""
        return study_name(self.settings, self.prefix)

    @property
    def prefix(self) -> str:
        """The readable part of its name: model, task and method."""
        problem = self.problem
        model, task = (
            Path(name).resolve().name for name in (problem.model_name, problem.task.name)
        )
        return f"{model}-{task}-{problem.subspace.method}".replace(" ", "_")


def _training_settings(config: TrainConfig, precision: str) -> dict[str, Any]:
    """With `auto` resolved to the precision of this machine."""
    return {**config.to_dict(), "precision": precision}
