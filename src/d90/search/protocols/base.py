"""The protocol interface: the baseline first, then trials chosen from the results so far."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from numbers import Integral
from types import MappingProxyType
from typing import Any, ClassVar

from d90.errors import D90Error
from d90.search.criteria import check_criterion_of, score_threshold
from d90.search.curve import curve, full_metric
from d90.search.proposals import Proposal
from d90.search.trial import Trial, TrialResult

LEARNING_RATES = (0.002, 0.004, 0.008, 0.016)
"""Four subspace learning rates, as the paper tries four; `d90.training` scales them with d."""

BASELINE_LEARNING_RATES = (5e-5, 1e-4)
"""Learning rates of the full fine-tuning baseline."""

LARGEST_D, LARGEST_SEED = 2**53, 2**64 - 1
"""Limits of the store and of philox-v1."""

OF_BEGIN: Mapping[str, Any] = MappingProxyType({"set_by": "begin"})
"""Metadata of the fields that `Protocol.begin` sets."""


@dataclass(frozen=True, kw_only=True)
class Protocol(ABC):
    """Decides which trials to run next: a pure function of the results so far.

    The full fine-tuning baseline comes first, at each of its learning rates with each seed.
    A d *passes* when more than half of its seeds trained and its best metric (mean over seeds of
    the best over learning rates) reaches

        threshold = origin + target_fraction * (full - origin)

    with full the metric of full fine-tuning (mean over seeds, best rate), and the origin 0 or, of
    the gain, the metric of the best constant predictor.

    Without a valid baseline there is nothing to search, and the protocol is finished. Runs that
    collapsed, were stopped, diverged or failed are finished too: no trial is requested twice.

    Args:
        learning_rates: of the subspace runs; normalized in d (`d90.training`).
        baseline_learning_rates: of the baseline.
        seeds: of the runs; each decides projection, data order and dropout. The baseline and
            every d are tried with each of them.
        target_fraction: fraction of the full metric that counts as reaching it, in (0, 1].
        criterion_of: what that is a fraction of: `metric` or `gain` (`d90.search.criteria`).
        majority: metric of the best constant predictor; set by `for_task`.

    Raises:
        D90Error: an argument is out of its range.
    """

    is_speculative: ClassVar[bool] = True
    """Whether idle workers run trials that may be requested next."""

    takes_given: ClassVar[bool] = False
    """Whether results of other protocols in the store are its own from the start (`begin`)."""

    learning_rates: Sequence[float] = LEARNING_RATES
    baseline_learning_rates: Sequence[float] = BASELINE_LEARNING_RATES
    seeds: Sequence[int] = (0,)
    target_fraction: float = 0.9
    criterion_of: str = "metric"
    majority: float = 0.0

    def __post_init__(self) -> None:
        check_rates("learning_rates", self.learning_rates)
        check_rates("baseline_learning_rates", self.baseline_learning_rates)
        check_integers("seeds", self.seeds, at_least=0, at_most=LARGEST_SEED)
        if not 0 < self.target_fraction <= 1:
            raise D90Error(
                f"target_fraction is {self.target_fraction}: expected a number in (0, 1] "
                "(the paper's is 0.9)."
            )
        check_criterion_of(self.criterion_of)

    @abstractmethod
    def dimensions(self) -> tuple[int, ...]:
        """Every d that the protocol may try, ascending."""

    @abstractmethod
    def clip(self, low: int, high: int) -> Protocol:
        """The same protocol, limited to dimensions from `low` to `high`.

        Raises:
            D90Error: no d is left.
        """

    def baseline(self) -> list[Trial]:
        """The trials of full fine-tuning that come first."""
        return [Trial(None, rate, s) for rate in self.baseline_learning_rates for s in self.seeds]

    def for_task(self, *, majority: float, evaluation_size: int) -> Protocol:
        """The protocol for a task.

        Args:
            majority: metric of the best constant predictor.
            evaluation_size: examples that the metric is over.
        """
        return replace(self, majority=majority)

    def begin(self, *, workers: int, given: Sequence[Trial] = ()) -> Protocol:
        """The protocol as a study begins with it; by default, the same.

        Args:
            workers: trials that can run at once.
            given: trials that the study has results of before it requests any.
        """
        return self

    def settings(self) -> dict[str, Any]:
        """The arguments that identify a study: all but those of `begin`, which resuming keeps."""
        names = (field.name for field in fields(self) if field.metadata != OF_BEGIN)
        return {name: getattr(self, name) for name in names}

    def search(self, results: Sequence[TrialResult], threshold: float) -> list[Trial]:
        """Subspace trials that may run now and are not finished; by default, all of them.

        Args:
            results: so far, with the whole baseline.
            threshold: the metric that passes.
        """
        return pending(trials(self.dimensions(), self.learning_rates, self.seeds), results)

    def max_remaining(self, results: Sequence[TrialResult], threshold: float | None) -> int:
        """Largest number of subspace trials still to come; threshold is None if unknown yet."""
        return len(pending(trials(self.dimensions(), self.learning_rates, self.seeds), results))

    def next_trials(self, results: Iterable[TrialResult]) -> list[Trial]:
        """All trials that may run now, in order; empty when the protocol is finished.

        Several may run at once; the caller skips those that are running already.
        """
        results = list(results)
        baseline = pending(self.baseline(), results)
        if baseline:
            return baseline
        threshold = self._threshold(results)
        return [] if threshold is None else self.search(results, threshold)

    def max_trials(self, results: Iterable[TrialResult] = ()) -> int:
        """Largest number of trials that it can still request; in total, without results."""
        results = list(results)
        baseline = pending(self.baseline(), results)
        threshold = None if baseline else self._threshold(results)
        if threshold is None and not baseline:
            return 0
        return len(baseline) + self.max_remaining(results, threshold)

    def proposals(self, results: Sequence[TrialResult]) -> list[Proposal]:
        """The trials that a posterior has chosen and that are not finished, for display."""
        return []

    def bounds(self, results: Iterable[TrialResult]) -> tuple[int | None, int | None]:
        """(largest d that fails, smallest d that passes) so far, for display.

        Only a d with no trial left to run counts. Where the curve is not monotone, the failing d
        is the largest below the passing one. A d at which nothing trained fails.
        """
        results = list(results)
        threshold = self._threshold(results)
        if threshold is None:
            return None, None
        tried = {r.trial.d for r in results if r.trial.d is not None}
        decided = tried - {trial.d for trial in self.next_trials(results)}
        reached = {p.d for p in curve(results) if p.passes(threshold)}
        passing = min(decided & reached, default=None)
        failing = [d for d in decided - reached if passing is None or d < passing]
        return max(failing, default=None), passing

    def _threshold(self, results: Sequence[TrialResult]) -> float | None:
        full = full_metric(results)
        if full is None:
            return None
        return score_threshold(
            full,
            floor=self.majority,
            target_fraction=self.target_fraction,
            criterion_of=self.criterion_of,
        )


def trials(dims: Iterable[int], rates: Sequence[float], seeds: Sequence[int]) -> list[Trial]:
    """Every (d, learning rate, seed), in that order of nesting."""
    return [Trial(d, rate, seed) for d in dims for rate in rates for seed in seeds]


def pending(trials: Iterable[Trial], results: Iterable[TrialResult]) -> list[Trial]:
    """The trials without a result."""
    done = {result.trial for result in results}
    return [trial for trial in trials if trial not in done]


def check_rates(name: str, rates: Sequence[float]) -> None:
    """Check learning rates: at least one, from 1e-30 to 1e30, no duplicates.

    Raises:
        D90Error: naming the argument and the offending value.
    """
    _check_some_and_once(name, rates)
    for rate in rates:
        if not 1e-30 <= rate <= 1e30:
            raise D90Error(f"{name} has {rate}: a learning rate is a positive number, up to 1e30.")


def check_integers(
    name: str, values: Sequence[int], *, at_least: int, at_most: int = LARGEST_D
) -> None:
    """Check integers: at least one, in range, no duplicates.

    Raises:
        D90Error: naming the argument and the offending value.
    """
    _check_some_and_once(name, values)
    for value in values:
        if not isinstance(value, Integral) or not at_least <= value <= at_most:
            raise D90Error(
                f"{name} has {value}: expected whole numbers from {at_least} to {at_most}."
            )


def check_range(min_dim: int, max_dim: int) -> None:
    """Check a range of dimensions: 1 <= min_dim <= max_dim.

    Raises:
        D90Error: it is not one; the message names both.
    """
    check_integers("min_dim", [min_dim], at_least=1)
    check_integers("max_dim", [max_dim], at_least=1)
    if min_dim > max_dim:
        raise D90Error(
            f"min_dim is {min_dim:,} and max_dim {max_dim:,}: expected min_dim <= max_dim."
        )


def clip_range(min_dim: int, max_dim: int, low: int, high: int) -> dict[str, int]:
    """The intersection of two ranges of dimensions: `min_dim` and `max_dim`.

    Raises:
        D90Error: it is empty.
    """
    if max(min_dim, low) > min(max_dim, high):
        raise none_within(low, high)
    return {"min_dim": max(min_dim, low), "max_dim": min(max_dim, high)}


def none_within(low: int, high: int) -> D90Error:
    """The error if none of the dimensions is in the range that a model has."""
    return D90Error(f"none of the dimensions lies from {low:,} to {high:,}: give others.")


def _check_some_and_once(name: str, values: Sequence[float]) -> None:
    if not values:
        raise D90Error(f"{name} is empty: give at least one value.")
    twice = [value for value in values if list(values).count(value) > 1]
    if twice:
        raise D90Error(f"{name} has {twice[0]} twice: give every value once.")
