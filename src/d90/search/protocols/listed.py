"""The dimensions that the user lists, and all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from d90.search.protocols.base import Protocol, check_integers, none_within


@dataclass(frozen=True, kw_only=True)
class ListProtocol(Protocol):
    """Every (d, learning rate, seed) for the given dimensions.

    Args:
        dims: the dimensions, in any order.

    Raises:
        D90Error: for no dimension, one below 1, or one given twice.

    >>> from d90.search.trial import TrialResult, Trial
    >>> protocol = ListProtocol(
    ...     dims=(10, 100), learning_rates=(0.01,), baseline_learning_rates=(1e-4,)
    ... )
    >>> protocol.next_trials([])
    [Trial(d=None, learning_rate=0.0001, seed=0)]
    >>> baseline = TrialResult(Trial(None, 1e-4, 0), "ok", metric=0.8)
    >>> [trial.d for trial in protocol.next_trials([baseline])]
    [10, 100]
    """

    dims: Sequence[int]

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integers("dims", self.dims, at_least=1)

    def dimensions(self) -> tuple[int, ...]:
        return tuple(sorted(self.dims))

    def clip(self, low: int, high: int) -> ListProtocol:
        inside = tuple(d for d in self.dims if low <= d <= high)
        if not inside:
            raise none_within(low, high)
        return replace(self, dims=inside)
