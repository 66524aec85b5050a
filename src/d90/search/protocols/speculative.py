"""Trials that a protocol may ask for next, for workers that would else be idle."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from d90.search.protocols.base import Protocol
from d90.search.trial import Trial, TrialResult


def speculative_trials(
    protocol: Protocol, results: Sequence[TrialResult], limit: int
) -> list[Trial]:
    """Trials that may be asked for once those that are asked for now have ended, nearest first.

    What is asked for now is imagined to pass and to fail, what is then asked for again, and so on:
    for a bisection these are the d on both sides of the one under way, then those beyond. Since a
    protocol is a pure function of the records, this holds for any.

    Args:
        protocol: of the study.
        records: so far.
        limit: how many to find; the last step may bring some more.
    """
    found: dict[Trial, None] = {}
    worlds = deque([list(results)])
    is_now = True
    while worlds and len(found) < limit:
        world = worlds.popleft()
        due = protocol.next_trials(world)
        if not is_now:
            found.update(dict.fromkeys(due))
        is_now = False
        worlds.extend([*world, *imagined] for imagined in _outcomes(due))
    return list(found)


def _outcomes(trials: Sequence[Trial]) -> Iterator[list[TrialResult]]:
    """All of them pass; all of them fail, unless they are the baseline, without which it ends."""
    if trials:
        yield [TrialResult(trial, "ok", metric=1.0) for trial in trials]
    if any(not trial.is_full for trial in trials):
        yield [TrialResult(trial, "collapsed") for trial in trials]
