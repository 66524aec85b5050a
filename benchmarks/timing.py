"""Times measured side by side: whatever slows the machine down slows all of them down."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

Work = Callable[[], object]


class Spread(NamedTuple):
    """The median of some values, and their quartiles."""

    value: float
    low: float
    high: float


def side_by_side(
    work: Mapping[str, Work], repetitions: int, *, calls: int = 1, warmup: int = 1
) -> dict[str, list[float]]:
    """Seconds a call of each piece of work, in each repetition.

    Every repetition does all the work, one piece after another, each `calls` times in a row.

    Args:
        work: what to time, by name.
        repetitions: how often.
        calls: more than one where a call is short against the clock, or where it is used to
            follow another of its kind, so that the caches hold what they would hold.
        warmup: repetitions before the first that counts.
    """
    times: dict[str, list[float]] = {name: [] for name in work}
    gc.disable()
    try:
        for repetition in range(-warmup, repetitions):
            for name, call in work.items():
                seconds = _seconds(call, calls)
                if repetition >= 0:
                    times[name].append(seconds)
    finally:
        gc.enable()
    return times


def _seconds(call: Work, calls: int) -> float:
    began = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - began) / calls


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles.

    >>> spread([4.0, 1.0, 2.0, 3.0, 5.0])
    Spread(value=3.0, low=2.0, high=4.0)
    """
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(middle, low, high)


def ratio(times: Sequence[float], base: Sequence[float], scale: float = 1.0) -> Spread:
    """Of `scale` times each repetition's time to the same repetition's base."""
    return spread([scale * a / b for a, b in zip(times, base, strict=True)])
