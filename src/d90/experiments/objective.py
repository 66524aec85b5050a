"""`d90.search`: d90 of a user's own training, whatever it trains and however it scores it.

The protocols, the store, the executors and the report are those of `d90.measure`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from d90.errors import D90Error
from d90.executors import make_executor
from d90.executors.objective import ObjectiveFunction, ObjectiveRunner
from d90.experiments.callbacks import Callback
from d90.experiments.measure import run_with_store
from d90.experiments.study import Study
from d90.search.criteria import SMOOTH
from d90.search.protocols import AdaptiveProtocol, ListProtocol, Protocol
from d90.search.protocols.base import check_integers
from d90.search.summary import Summary
from d90.search.trial import Trial
from d90.utils.digest import canonical_json, json_digest

FLOOR = "floor"
"""What the score without training is called by default."""


@dataclass(frozen=True)
class Objective:
    """A user's own training, as what a study trains.

    Attributes:
        function: trains one trial and returns its score.
        name: identifies it in a store, together with `own_settings`.
        own_settings: JSON values: what else decides the results of its trials.
        metric: name of the score.
        majority: score without training; `reference`: what it is the score of.
        D: number of parameters that full fine-tuning trains; None if unknown.
        evaluation_size: number of examples that the score is a proportion of; None if of none.

    Raises:
        D90Error: one is invalid.
    """

    function: ObjectiveFunction
    name: str
    own_settings: Mapping[str, Any] = field(default_factory=dict)
    metric: str = "score"
    majority: float = 0.0
    reference: str = FLOOR
    D: int | None = None
    evaluation_size: int | None = None

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise D90Error(f"objective {self.function!r:.60}: expected a function of a trial.")
        for argument, value in (
            ("name", self.name),
            ("metric", self.metric),
            ("floor_name", self.reference),
        ):
            if not isinstance(value, str) or not value.strip() or not value.isprintable():
                raise D90Error(f"{argument} is {value!r:.60}: expected a name, in one line.")
        if self.metric in SMOOTH:
            raise D90Error(f"metric '{self.metric}' is a score of d90's own: give another name.")
        if not 0 <= self.majority < 1:
            raise D90Error(f"floor is {self.majority}: expected a score from 0 to below 1.")
        for argument, count in (("D", self.D), ("evaluation_size", self.evaluation_size)):
            if count is not None:
                check_integers(argument, [count], at_least=1)
        try:
            plain = json.loads(canonical_json(dict(self.own_settings)))
        except (TypeError, ValueError) as error:
            raise D90Error(f"settings: expected a mapping of JSON values ({error}).") from error
        object.__setattr__(self, "own_settings", plain)

    @property
    def runner(self) -> ObjectiveRunner:
        """Calls the function."""
        return ObjectiveRunner(self.function, self.name)

    @property
    def criterion(self) -> str:
        """The score itself."""
        return self.metric

    @property
    def floor(self) -> float:
        """The score without training."""
        return self.majority

    @property
    def floor_reference(self) -> str:
        """What `floor` is the score of."""
        return self.reference

    @property
    def has_binomial_noise(self) -> bool:
        """Whether the score is a proportion of examples."""
        return self.evaluation_size is not None

    @property
    def settings(self) -> dict[str, Any]:
        """What identifies its studies in a store, besides the protocol."""
        return {
            "objective": self.name,
            "settings": self.own_settings,
            "criterion": self.metric,
        }

    @property
    def shared_settings(self) -> Sequence[str]:
        """Those that decide the results of its trials."""
        return ("objective", "settings")

    @property
    def facts(self) -> dict[str, Any]:
        """D and the score without training."""
        return {"D": self.D, "majority": self.majority}

    @property
    def prefix(self) -> str:
        """The name."""
        return self.name

    @property
    def title(self) -> str:
        """The name, and D if known."""
        return self.name if self.D is None else f"{self.name}: D = {self.D:,}"

    def key(self, trial: Trial) -> str:
        """A digest of everything that decides the result of the trial, in any study."""
        identity = {name: self.settings[name] for name in self.shared_settings}
        return json_digest({**identity, "trial": asdict(trial)})

    def check_dims(self, dims: Sequence[int]) -> None:
        """Check that no d is above D, if known.

        Raises:
            D90Error: one is.
        """
        if self.D is not None and max(dims) > self.D:
            raise D90Error(
                f"d = {max(dims):,} is above D = {self.D:,}, the number of parameters: give "
                "smaller dims, or a protocol with a smaller max_dim."
            )

    def description(self) -> dict[str, Any]:
        """Fields of a summary that say what is trained."""
        size = self.evaluation_size
        examples = {} if size is None else {"metric": size}
        return {"objective": self.name, "D": self.D, "examples": examples}


def search(
    objective: ObjectiveFunction,
    *,
    name: str,
    settings: Mapping[str, Any] | None = None,
    protocol: Protocol | None = None,
    dims: Sequence[int] | None = None,
    metric: str = "score",
    floor: float = 0.0,
    floor_name: str = FLOOR,
    D: int | None = None,
    evaluation_size: int | None = None,
    store: str | Path = "d90.db",
    executor: str = "serial",
    workers: int | None = None,
    address: str | None = None,
    cpus_per_trial: float = 1,
    gpus_per_trial: float | None = None,
    callback: Callback | None = None,
) -> Summary:
    """Measure d90 of any training: the fewest parameters that reach 0.9 of the full score.

    Args:
        objective: `objective(trial)` trains `trial.d` parameters, or all of them if it is None, at
            `trial.learning_rate` and with the randomness of `trial.seed`. It returns the score, at
            most 1 and higher is better, or a `TrialResult`. One that raises is a failed trial; a
            score that is not finite, or below -1, is that of a run that diverged.
        name: identifies the training in the store: finished trials of this name and `settings` are
            never repeated.
        settings: JSON values: whatever else decides a score, such as the model or the data.
        protocol: decides which trials to run; by default adaptive, up to D.
        dims: in place of a protocol: every one of these d is tried.
        metric: name of the score.
        floor: score without training, from 0 to below 1: of a constant predictor, or of the
            pretrained model.
        floor_name: what it is the score of. If it is `pretrained model` and passes itself, the
            study ends as `already-satisfied`.
        D: number of parameters that full fine-tuning trains, if known.
        evaluation_size: number of examples, if the score is a proportion of them, as an accuracy.
        store: a path (SQLite) or a PostgreSQL URL; the same call resumes from it.
        executor, workers, address, cpus_per_trial, gpus_per_trial: where trials run, as in
            `d90.executors.make_executor`. `processes` needs an objective at a module's top level.
        callback: notified of progress.

    Returns:
        The summary: `summary.d90`, or `summary.status` and `summary.reason` if there is none.

    Raises:
        D90Error: an argument is invalid, the objective returned no score, or a resource that the
            study needs cannot be used.
    """
    problem = Objective(
        objective,
        name,
        own_settings={} if settings is None else settings,
        metric=metric,
        majority=floor,
        reference=floor_name,
        D=D,
        evaluation_size=evaluation_size,
    )
    study = Study(problem, _protocol(protocol, dims, D))
    runs = make_executor(
        executor,
        problem.runner,
        workers=workers,
        address=address,
        cpus_per_trial=cpus_per_trial,
        gpus_per_trial=gpus_per_trial,
    )
    return run_with_store(study, store, executor=runs, callback=callback)


def _protocol(protocol: Protocol | None, dims: Sequence[int] | None, D: int | None) -> Protocol:
    if dims is None:
        adaptive = AdaptiveProtocol()
        return protocol or (adaptive if D is None else adaptive.clip(1, D))
    if protocol is not None:
        raise D90Error("dims and a protocol were given: give one, as in ListProtocol(dims=...).")
    return ListProtocol(dims=dims)
