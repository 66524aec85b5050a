"""What a study knew of d90 after each run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from d90.search.posterior import Answer
from d90.search.protocols.base import Protocol
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
    """d90 after each run, in this order, from the first run on that gives the protocol a posterior.

    The adaptive protocol has computed these posteriors to choose its runs, and keeps them.
    """
    points = []
    for count, result in enumerate(results, start=1):
        posterior = protocol.posterior(results[:count])
        if posterior is not None:
            points.append(_point(result, posterior.answer))
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
