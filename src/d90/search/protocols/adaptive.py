"""Runs that say most about d90, chosen one after another by a Bayesian model of the curve."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import ClassVar

from d90.errors import D90Error
from d90.search.curve import passes
from d90.search.curve_model import CurveModel, Run, records, runs_of
from d90.search.ladder import ladder
from d90.search.posterior import (
    ANSWER_PARTICLES,
    ANSWER_SEED,
    Posterior,
    sample_posterior,
)
from d90.search.proposals import Proposal, propose, propose_end
from d90.search.protocols.base import OF_BEGIN, Protocol, check_range, clip_range
from d90.search.trial import Trial, TrialResult

SURE = 0.9
"""Probability that d90 is beyond an end of the ladder at which the search ends, or looks there."""

FEWEST = 4
"""Subspace runs before it may end so."""


@dataclass(frozen=True, kw_only=True)
class AdaptiveProtocol(Protocol):
    """The next run is the one that is expected to take away most of the variance of ln d90.

    After the baseline, a Bayesian model (`d90.search.curve_model`) of the metric as a function of
    d and learning rate is conditioned on all runs so far. The search ends when the 95% interval of
    d90 is narrower than `interval_ratio`, when d90 is beyond an end of the ladder with a
    probability of 0.9 and a run was made at that end, or at `budget` runs. The baseline is repeated
    where its noise matters most.

    The same results give the same proposals, whatever order they ended in. Runs are proposed in
    rounds of `batch`; the next round waits for all of them. Runs that the study has of other
    protocols are known from the start, whatever their d and rate, and are not part of `budget`.

    Args:
        min_dim: smallest d.
        max_dim: largest d.
        interval_ratio: of the ends of the interval, at which the search ends; above 1.
        budget: largest number of runs, the baseline's included.
        batch: runs at a time; None for as many as `workers`.
        seeds: the first seed, of the baseline; every further run has the next.
        evaluation_size: examples that the metric is over; set by `for_task`.
        workers: runs that can be made at once; set by `begin`.
        given: trials of other protocols that have results from the start; set by `begin`.

    Raises:
        D90Error: an argument is out of its range.
    """

    is_speculative: ClassVar[bool] = False
    takes_given: ClassVar[bool] = True

    min_dim: int = 10
    max_dim: int = 100_000
    interval_ratio: float = 2.0
    budget: int = 24
    batch: int | None = None
    evaluation_size: int = 1000
    workers: int = field(default=1, metadata=OF_BEGIN)
    given: Sequence[Trial] = field(default=(), metadata=OF_BEGIN)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self.min_dim, self.max_dim)
        if len(self.seeds) != 1:
            raise D90Error(
                f"seeds has {len(self.seeds)} values: the protocol adaptive takes the first seed "
                "and chooses the others itself."
            )
        if not 1 < self.interval_ratio < math.inf:
            raise D90Error(f"interval_ratio is {self.interval_ratio}: expected a number above 1.")
        least = len(self.baseline_learning_rates) + FEWEST
        if self.budget < least:
            raise D90Error(
                f"budget is {self.budget}: {len(self.baseline_learning_rates)} runs of the "
                f"baseline and {FEWEST} others make at least {least}."
            )
        if self.batch is not None and self.batch < 1:
            raise D90Error(f"batch is {self.batch}: expected at least one run at a time.")

    def dimensions(self) -> tuple[int, ...]:
        """The ladder: each rung 1.157 times the one before."""
        return ladder(self.min_dim, self.max_dim)

    def clip(self, low: int, high: int) -> AdaptiveProtocol:
        return replace(self, **clip_range(self.min_dim, self.max_dim, low, high))

    def for_task(self, *, majority: float, evaluation_size: int) -> AdaptiveProtocol:
        return replace(self, majority=majority, evaluation_size=evaluation_size)

    def begin(self, *, workers: int, given: Sequence[Trial] = ()) -> AdaptiveProtocol:
        return replace(self, workers=workers, given=tuple(given))

    def search(self, results: Sequence[TrialResult], threshold: float) -> list[Trial]:
        """The rest of the present round; none where a constant predictor would pass."""
        if passes(self.majority, threshold):
            return []
        return [proposal.trial for proposal in self._due(results)]

    def proposals(self, results: Sequence[TrialResult]) -> list[Proposal]:
        requested = self.next_trials(results)
        if self.posterior(results) is None:
            return []
        return [proposal for proposal in self._due(results) if proposal.trial in requested]

    def _due(self, results: Sequence[TrialResult]) -> list[Proposal]:
        """The rest of the present round."""
        done = {result.trial for result in results}
        start = {*self.baseline(), *self.given}
        path = [result for result in results if result.trial in start]
        while True:
            proposed = _proposed(self._hashable, runs_of(path))
            due = [proposal for proposal in proposed if proposal.trial not in done]
            known = {result.trial for result in path}.union(p.trial for p in proposed)
            if due and any(result.trial not in known for result in results):
                # Runs of another protocol, or proposals of another version: all are taken as given.
                path = list(results)
            elif due or not proposed:
                return due
            else:
                path = [result for result in results if result.trial in known]

    def max_remaining(self, results: Sequence[TrialResult], threshold: float | None) -> int:
        subspace_budget = self.budget - len(self.baseline_learning_rates)
        if threshold is None:
            return subspace_budget
        left = self._room({result.trial for result in results})
        return left if self.search(results, threshold) else 0

    def bounds(self, results: Iterable[TrialResult]) -> tuple[int | None, int | None]:
        """The ends of the posterior's interval, for display."""
        posterior = self.posterior(list(results))
        if posterior is None:
            return None, None
        low, high = posterior.answer.interval
        return None if low is None else round(low), None if high is None else round(high)

    def posterior(self, results: Sequence[TrialResult]) -> Posterior | None:
        """The curve given these results; None without a baseline above the majority class."""
        threshold = self._threshold(results)
        if threshold is None or passes(self.majority, threshold):
            return None
        return _posterior(self._hashable, runs_of(results))

    def _room(self, trials: Collection[Trial]) -> int:
        """What is left of the budget."""
        return max(self.budget - len(set(trials).difference(self.given)), 0)

    @property
    def _hashable(self) -> AdaptiveProtocol:
        """The same protocol as a key of the caches, which lists cannot be part of."""
        lists = ("learning_rates", "baseline_learning_rates", "seeds", "given")
        return replace(self, **{name: tuple(getattr(self, name)) for name in lists})


@lru_cache(maxsize=256)
def _proposed(protocol: AdaptiveProtocol, runs: tuple[Run, ...]) -> tuple[Proposal, ...]:
    """The runs to make next; none if the search has ended."""
    made = [run.trial for run in runs]
    room = min(protocol.batch or protocol.workers, protocol._room(made))
    if room < 1:
        return ()
    posterior, seed = _posterior(protocol, runs), protocol.seeds[0]
    if _is_answered(protocol, runs):
        return tuple(propose_end(posterior, runs, sure=SURE, first_seed=seed))
    return tuple(propose(posterior, runs, room, first_seed=seed))


def _is_answered(protocol: AdaptiveProtocol, runs: tuple[Run, ...]) -> bool:
    """Whether the posterior ends the search, and the larger sample of the answer agrees."""
    posterior = _posterior(protocol, runs)
    return _ends(protocol, posterior) and _ends(
        protocol,
        sample_posterior(posterior.model, particles=ANSWER_PARTICLES, seed=ANSWER_SEED),
    )


def _ends(protocol: AdaptiveProtocol, posterior: Posterior) -> bool:
    answer = posterior.answer
    if answer.ratio <= protocol.interval_ratio:
        return True
    return len(posterior.model.records.x) >= FEWEST and max(answer.below, answer.above) >= SURE


def _posterior(protocol: AdaptiveProtocol, runs: tuple[Run, ...]) -> Posterior:
    """The curve given these runs, which a study that has begun and one that has not share."""
    return _sampled(replace(protocol, workers=1, given=()), runs)


@lru_cache(maxsize=256)
def _sampled(protocol: AdaptiveProtocol, runs: tuple[Run, ...]) -> Posterior:
    model = CurveModel(
        records(runs),
        protocol.majority,
        protocol.evaluation_size,
        tuple(protocol.learning_rates),
        protocol.dimensions(),
        protocol.target_fraction,
        protocol.criterion_of,
    )
    return sample_posterior(model)
