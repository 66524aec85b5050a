"""The paper's second protocol: a binary search in log d."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count, islice
from statistics import fmean

from d90.errors import D90Error
from d90.search.curve import Point, curve, passes, valid_results
from d90.search.ladder import RATIO, ladder
from d90.search.protocols.base import (
    LARGEST_SEED,
    Protocol,
    check_range,
    clip_range,
    pending,
    trials,
)
from d90.search.trial import Trial, TrialResult

EXTRA_SEEDS = 2
"""Further seeds that a d is tried with before it counts as one where nothing trains."""


@dataclass(frozen=True, kw_only=True)
class BisectProtocol(Protocol):
    """Binary search for the smallest d that passes, on a geometric ladder of dimensions.

    The rungs run from min_dim to max_dim, both included, each about `ratio` times the one before
    (the values of the paper's Table 1 lie on a ladder of ratio 1.157). The search takes the middle
    rung between the largest d known to fail and the smallest known to pass, until they are
    neighbors; before anything is known they lie just outside the ladder, so that its two ends are
    tried only when everything between fails, or passes.

    Every d has all learning rates; the paper's "fixed one above" d = 10,000 sends a search up where
    that one does not train. The first d that the search meets is tried with all of them at once. A
    later d is tried first with the *best ones so far*, each learning rate that was the best at some
    d met before (most seeds trained, then the highest mean metric over seeds, then the order
    given). When they pass with a valid run for every seed, so does d, and the others are not tried.
    When they do not, the others are: a d fails only after all its learning rates did.

    A d is undecided where nothing trained, or where it would pass but for the seeds that did not
    train (`Point.is_stable`). It is tried with up to two more seeds, one after another, at all
    learning rates, before it fails. Where nothing trained at two neighbors of the d met so far, and
    no larger d passes, the search ends: further up there is nothing to find.

    All trials of one step may run at once; the next step is decided when all have finished, so that
    the path does not depend on which of them ended first.

    Args:
        min_dim: smallest d; reached if everything passes.
        max_dim: largest d; reached if everything fails.
        ratio: resolution of the ladder, above 1.

    Raises:
        D90Error: an argument is out of its range.
    """

    min_dim: int = 100
    max_dim: int = 4_000_000
    ratio: float = RATIO

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self.min_dim, self.max_dim)
        if not 1 < self.ratio < math.inf:
            raise D90Error(f"ratio is {self.ratio}: the rungs of a ladder need a ratio above 1.")

    def dimensions(self) -> tuple[int, ...]:
        """The ladder."""
        return ladder(self.min_dim, self.max_dim, self.ratio)

    def clip(self, low: int, high: int) -> BisectProtocol:
        return replace(self, **clip_range(self.min_dim, self.max_dim, low, high))

    def search(self, results: Sequence[TrialResult], threshold: float) -> list[Trial]:
        """Unfinished trials of the current step of the search."""
        return self._descend(results, threshold)[2]

    def max_remaining(self, results: Sequence[TrialResult], threshold: float | None) -> int:
        """Trials on the longest remaining path, with all rates and extra seeds at each d."""
        dims = self.dimensions()
        if threshold is None:
            return self._longest(len(dims))
        low, high, due = self._descend(results, threshold)
        if not due:
            return 0
        middle = (low + high) // 2
        due_at_middle = len(pending(self._all_at(dims[middle]), results))
        return due_at_middle + self._longest(max(middle - low, high - middle) - 1)

    def _descend(
        self, results: Sequence[TrialResult], threshold: float
    ) -> tuple[int, int, list[Trial]]:
        """Replay the search: rungs (failing, passing), exclusive, and the trials due between."""
        dims = self.dimensions()
        low, high = -1, len(dims)
        best_rates: list[float] = []
        low_trained = True
        while high - low > 1:
            middle = (low + high) // 2
            due, point = self._visit(dims[middle], best_rates, results, threshold)
            if due:
                return low, high, due
            best_rates += self._best_rates(dims[middle], results)
            if point is not None and point.passes(threshold):
                high = middle
                continue
            if point is None and not low_trained and high == len(dims):
                break
            low, low_trained = middle, point is not None
        return low, high, []

    def _visit(
        self,
        d: int,
        best_rates: Sequence[float],
        results: Sequence[TrialResult],
        threshold: float,
    ) -> tuple[list[Trial], Point | None]:
        """The unfinished trials of the first unfinished step at d; without any, its point.

        A step is judged by its own runs and those before it: otherwise the order in which runs of
        the next step end would decide whether the others are requested.
        """
        steps = self._steps(d, best_rates)
        regular = len(steps) - EXTRA_SEEDS
        reached: list[Trial] = []
        point = None
        for number, step in enumerate(steps):
            if number < regular:
                decided = self._passes_at_all_seeds(point, threshold)
            else:
                decided = _is_decided(point, threshold)
            if decided:
                break
            due = pending(step, results)
            if due:
                return due, None
            reached += step
            point = _point(reached, results)
        return [], point

    def _steps(self, d: int, best_rates: Sequence[float]) -> list[list[Trial]]:
        """The trials at d: those to run first, the others, and those of each extra seed."""
        first = [rate for rate in self.learning_rates if rate in best_rates]
        others = [rate for rate in self.learning_rates if rate not in best_rates]
        regular = [trials([d], rates, self.seeds) for rates in (first, others) if rates]
        return regular + [trials([d], self.learning_rates, [s]) for s in self._extra_seeds()]

    def _passes_at_all_seeds(self, point: Point | None, threshold: float) -> bool:
        if point is None or len(point.by_seed) < len(self.seeds):
            return False
        return point.passes(threshold)

    def _best_rates(self, d: int, results: Sequence[TrialResult]) -> list[float]:
        """The best learning rate at d, in a list; empty if nothing trained there."""
        metrics: dict[float, list[float]] = {}
        for result in valid_results(results):
            if result.trial.d == d and result.metric is not None:
                metrics.setdefault(result.trial.learning_rate, []).append(result.metric)
        ranked = [rate for rate in self.learning_rates if rate in metrics]
        return sorted(ranked, key=lambda rate: (-len(metrics[rate]), -fmean(metrics[rate])))[:1]

    def _extra_seeds(self) -> list[int]:
        following = ((min(self.seeds) + i) % (LARGEST_SEED + 1) for i in count())
        return list(islice((seed for seed in following if seed not in self.seeds), EXTRA_SEEDS))

    def _all_at(self, d: int) -> list[Trial]:
        return trials([d], self.learning_rates, [*self.seeds, *self._extra_seeds()])

    def _longest(self, rungs: int) -> int:
        """Largest number of trials that a search of so many rungs can request."""
        return rungs.bit_length() * len(self._all_at(self.min_dim))


def _point(own: Sequence[Trial], results: Sequence[TrialResult]) -> Point | None:
    """The point of the curve that some trials at one d make; None if none of them trained."""
    points = curve(result for result in results if result.trial in own)
    return points[0] if points else None


def _is_decided(point: Point | None, threshold: float) -> bool:
    """Whether the seeds so far say that d passes, or that it fails."""
    return point is not None and (point.is_stable or not passes(point.best, threshold))
