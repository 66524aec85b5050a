"""Side-by-side timing: whatever slows the machine down slows down everything compared."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch

Work = Callable[[], object]


class Spread(NamedTuple):
    """A median and its quartiles."""

    value: float
    low: float
    high: float


def side_by_side(
    work: Mapping[str, Work],
    repetitions: int,
    *,
    calls: int = 1,
    warmup: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds per call of each operation, in each repetition.

    Every repetition runs all operations one after another, each `calls` times in a row.

    Args:
        work: the operations to time, by name.
        repetitions: number of timed repetitions.
        calls: more than one if a call is short compared with the clock, or if caches should hold
            what a previous call of the same operation left.
        warmup: repetitions before the first timed one.
        clock: in seconds; `time.process_time` leaves out what other processes take.
    """
    times: dict[str, list[float]] = {name: [] for name in work}
    gc.disable()
    try:
        for repetition in range(-warmup, repetitions):
            for name, call in work.items():
                seconds = _seconds(call, calls, clock)
                if repetition >= 0:
                    times[name].append(seconds)
    finally:
        gc.enable()
    return times


def _seconds(call: Work, calls: int, clock: Callable[[], float]) -> float:
    _synchronize()
    start = clock()
    for _ in range(calls):
        call()
    _synchronize()
    return (clock() - start) / calls


def _synchronize() -> None:
    """Wait for the GPU, if there is one: its work outlasts the calls that queue it."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles.

    >>> spread([4.0, 1.0, 2.0, 3.0, 5.0])
    Spread(value=3.0, low=2.0, high=4.0)
    """
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(middle, low, high)


def ratio(times: Sequence[float], base: Sequence[float], scale: float = 1.0) -> Spread:
    """Spread of `scale * time / base`, repetition by repetition."""
    return spread([scale * a / b for a, b in zip(times, base, strict=True)])
