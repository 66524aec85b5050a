"""The paper's second protocol: a binary search in log d."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from d90.errors import D90Error
from d90.search.curve import curve, passes, valid_results
from d90.search.ladder import RATIO, ladder
from d90.search.protocols.base import (
    Protocol,
    check_range,
    check_rates,
    clip_range,
    pending,
    trials,
)
from d90.search.trial import Trial, TrialResult

LARGE = 10_000
"""From this d on one fixed learning rate is used (the paper's figure)."""


@dataclass(frozen=True, kw_only=True)
class BisectProtocol(Protocol):
    """Binary search for the smallest d that passes, on a geometric ladder of dimensions.

    The rungs run from min_dim to max_dim, both included, each about `ratio` times the one before
    (the values of the paper's Table 1 lie on a ladder of ratio 1.157). The search takes the middle
    rung between the largest d known to fail and the smallest known to pass, until they are
    neighbors; before anything is known they lie just outside the ladder, so that its two ends are
    tried only when everything between fails, or passes.

    Learning rates follow the paper, "reusing the best learning rates for d < 10,000 and a fixed
    one above", which we read so:

    * d >= 10,000: `fixed_learning_rate` alone.
    * the first d < 10,000 that the search meets: every learning rate.
    * a later d < 10,000: first the *best ones so far*, each learning rate that was the best at some
      d < 10,000 met before (most seeds trained, then the highest mean metric over seeds, then the
      order given). When they pass with a valid run for every seed, so does d, and the others are
      not tried. When they do not, the others are: a d fails only after all its learning rates did.

    A d without a valid run fails, and the search goes up. All trials of one step may run at
    once; the next step is decided when all have finished, so that the path does not depend on
    which of them ended first.

    Args:
        min_dim: smallest d; reached if everything passes.
        max_dim: largest d; reached if everything fails.
        ratio: resolution of the ladder, above 1.
        fixed_learning_rate: for d >= 10,000; by default the middle one of `learning_rates`
            (of an even number, the smaller of the two in the middle).

    Raises:
        D90Error: an argument is out of its range.
    """

    min_dim: int = 100
    max_dim: int = 4_000_000
    ratio: float = RATIO
    fixed_learning_rate: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self.min_dim, self.max_dim)
        if not 1 < self.ratio < math.inf:
            raise D90Error(f"ratio is {self.ratio}: the rungs of a ladder need a ratio above 1.")
        if self.fixed_learning_rate is not None:
            check_rates("fixed_learning_rate", [self.fixed_learning_rate])

    def dimensions(self) -> tuple[int, ...]:
        """The ladder."""
        return ladder(self.min_dim, self.max_dim, self.ratio)

    def clip(self, low: int, high: int) -> BisectProtocol:
        return replace(self, **clip_range(self.min_dim, self.max_dim, low, high))

    def search(self, results: Sequence[TrialResult], threshold: float) -> list[Trial]:
        """Unfinished trials of the current step of the search."""
        return self._descend(results, threshold)[2]

    def max_remaining(self, results: Sequence[TrialResult], threshold: float | None) -> int:
        """Trials on the longest remaining path, with all learning rates at each dimension."""
        dims = self.dimensions()
        if threshold is None:
            return self._longest(dims)
        low, high, due = self._descend(results, threshold)
        if not due:
            return 0
        middle = (low + high) // 2
        due_at_middle = len(pending(self._all_at(dims[middle]), results))
        return due_at_middle + max(
            self._longest(dims[low + 1 : middle]), self._longest(dims[middle + 1 : high])
        )

    def _descend(
        self, results: Sequence[TrialResult], threshold: float
    ) -> tuple[int, int, list[Trial]]:
        """Replay the search: rungs (failing, passing), exclusive, and the trials due between."""
        dims = self.dimensions()
        points = {point.d: point for point in curve(results)}
        low, high = -1, len(dims)
        best_rates: list[float] = []
        while high - low > 1:
            middle = (low + high) // 2
            d = dims[middle]
            steps = self._steps(d, best_rates)
            due = self._due(steps, results, threshold)
            if due:
                return low, high, due
            if d < LARGE:
                best_rates += self._best_rates(d, results)
            point = points.get(d)
            if point is not None and passes(point.best, threshold):
                high = middle
            else:
                low = middle
        return low, high, []

    def _steps(self, d: int, best_rates: Sequence[float]) -> list[list[Trial]]:
        """The trials at d: those to run first, and those to run if the first do not pass."""
        if d >= LARGE or not best_rates:
            return [self._all_at(d)]
        others = [rate for rate in self.learning_rates if rate not in best_rates]
        first = [rate for rate in self.learning_rates if rate in best_rates]
        return [trials([d], first, self.seeds), trials([d], others, self.seeds)]

    def _due(
        self, steps: Sequence[list[Trial]], results: Sequence[TrialResult], threshold: float
    ) -> list[Trial]:
        """Unfinished trials of the first unfinished step; none if an earlier step passes.

        A step is judged by its own runs and those before it: otherwise the order in which runs of
        the next step end would decide whether the others are requested.
        """
        reached: list[Trial] = []
        for step in steps:
            due = pending(step, results)
            if due:
                return due
            reached += step
            points = curve([result for result in results if result.trial in reached])
            all_trained = bool(points) and len(points[0].by_seed) == len(self.seeds)
            if all_trained and passes(points[0].best, threshold):
                return []
        return []

    def _best_rates(self, d: int, results: Sequence[TrialResult]) -> list[float]:
        """The best learning rate at d, in a list; empty if nothing trained there."""
        metrics: dict[float, list[float]] = {}
        for result in valid_results(results):
            if result.trial.d == d and result.metric is not None:
                metrics.setdefault(result.trial.learning_rate, []).append(result.metric)
        ranked = [rate for rate in self.learning_rates if rate in metrics]
        return sorted(ranked, key=lambda rate: (-len(metrics[rate]), -fmean(metrics[rate])))[:1]

    def _all_at(self, d: int) -> list[Trial]:
        rates = [self._fixed_rate()] if d >= LARGE else self.learning_rates
        return trials([d], rates, self.seeds)

    def _fixed_rate(self) -> float:
        if self.fixed_learning_rate is not None:
            return self.fixed_learning_rate
        return sorted(self.learning_rates)[(len(self.learning_rates) - 1) // 2]

    def _longest(self, dims: Sequence[int]) -> int:
        """Largest number of trials that a search of these rungs can request."""
        if not dims:
            return 0
        middle = (len(dims) - 1) // 2
        return len(self._all_at(dims[middle])) + max(
            self._longest(dims[:middle]), self._longest(dims[middle + 1 :])
        )
