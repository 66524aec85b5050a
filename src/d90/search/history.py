"""What a study knew of d90 after each run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from d90.search.posterior import Answer
from d90.search.protocols import AdaptiveProtocol, Protocol
from d90.search.trial import TrialResult


class HistoryPoint(NamedTuple):
    """d90 by the runs up to this one.

    Attributes:
        d, learning_rate, seed: of the run; d is None for full fine-tuning.
        d90: median of the posterior that chooses the next run; None if it is beyond the ladder, or
            the interval has no end.
        low, high: its 95% interval; an end that is None is open.
    """

    d: int | None
    learning_rate: float
    seed: int
    d90: int | None
    low: int | None
    high: int | None

    @property
    def ratio(self) -> float:
        """Of the ends of the interval; infinite where one is open."""
        return math.inf if self.low is None or self.high is None else self.high / self.low


def history(protocol: Protocol, results: Sequence[TrialResult]) -> tuple[HistoryPoint, ...]:
    """d90 after each run of an adaptive study, in this order, from the first with a posterior on.

    These posteriors have chosen the runs, and are kept. Results that the study was given when it
    began, which come first and may be many, are one step; so are those beyond its budget.
    """
    if not isinstance(protocol, AdaptiveProtocol):
        return ()
    given = set(protocol.given)
    first = max(sum(r.trial in given for r in results), len(results) - protocol.budget, 1)
    points = []
    for count in range(first, len(results) + 1):
        posterior = protocol.posterior(results[:count])
        if posterior is not None:
            points.append(_point(results[count - 1], posterior.answer))
    return tuple(points)


def _point(result: TrialResult, answer: Answer) -> HistoryPoint:
    trial, (low, high) = result.trial, answer.interval
    return HistoryPoint(
        trial.d,
        trial.learning_rate,
        trial.seed,
        None if answer.median is None or low is high is None else round(answer.median),
        None if low is None else math.floor(low),
        None if high is None else math.ceil(high),
    )
