"""A user's own training for tests: its trials are those of a simulated world."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.helpers.simulated import WORLD

import d90
from d90.search.trial import Trial, TrialResult

COMMON: dict[str, Any] = {
    "name": "simulated",
    "settings": {"world": WORLD.number},
    "metric": "accuracy",
    "floor": WORLD.majority,
    "floor_name": "majority class",
    "D": 10**6,
    "evaluation_size": WORLD.evaluation_size,
}
"""Arguments of `d90.search`."""


def score(trial: Trial) -> TrialResult:
    """The result of a trial, which does not depend on the process."""
    return WORLD.run(trial)


def brittle(trial: Trial) -> float:
    """A score whose training fails at one d."""
    if trial.d == 100:
        raise RuntimeError("out of\n  luck")
    return WORLD.run(trial).metric or 0.0


class Counted:
    """`score`, with the trials that it was called with."""

    def __init__(self) -> None:
        self.trials: list[Trial] = []

    def __call__(self, trial: Trial) -> TrialResult:
        self.trials.append(trial)
        return score(trial)


def search(objective: Any, store: Path, protocol: Any, **changes: Any) -> d90.Summary:
    """`d90.search` with the common arguments."""
    return d90.search(objective, store=store, protocol=protocol, **{**COMMON, **changes})
