"""Trials that a protocol may request next, for workers that would otherwise be idle."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from d90.search.protocols.base import Protocol
from d90.search.trial import Trial, TrialResult


def speculative_trials(
    protocol: Protocol, results: Sequence[TrialResult], limit: int
) -> list[Trial]:
    """Trials that may be requested once the present requests have ended, nearest first.

    The trials that are requested now are assumed to pass, and to fail; so are those requested then,
    and so on. For a bisection these are the d on both sides of the present one, then those beyond.
    This works for any protocol, because it is a pure function of the results; one whose proposals
    follow the very values of the metrics has none that are likely enough.

    Args:
        protocol: of the study.
        results: so far.
        limit: number of trials; the last step may add some more.
    """
    if not protocol.is_speculative:
        return []
    possible: dict[Trial, None] = {}
    branches = deque([list(results)])
    is_now = True
    while branches and len(possible) < limit:
        branch = branches.popleft()
        due = protocol.next_trials(branch)
        if not is_now:
            possible.update(dict.fromkeys(due))
        is_now = False
        branches.extend([*branch, *assumed] for assumed in _outcomes(due))
    return list(possible)


def _outcomes(trials: Sequence[Trial]) -> Iterator[list[TrialResult]]:
    """All of them pass; all of them fail, unless they are the baseline, without which it ends."""
    if trials:
        yield [TrialResult(trial, "ok", metric=1.0) for trial in trials]
    if any(not trial.is_full for trial in trials):
        yield [TrialResult(trial, "ok", metric=0.0) for trial in trials]
