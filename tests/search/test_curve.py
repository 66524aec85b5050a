"""Points of the curve, by hand."""

from __future__ import annotations

import math

from d90.search.curve import Point, curve, full_metric, passes, valid_results
from d90.search.trial import Status, Trial, TrialResult

RECORDS = [
    TrialResult(Trial(None, 1e-4), "ok", metric=0.80),
    TrialResult(Trial(None, 1e-3), "collapsed", metric=0.90),
    TrialResult(Trial(100, 0.01, 0), "ok", metric=0.60),
    TrialResult(Trial(100, 0.02, 0), "ok", metric=0.70),
    TrialResult(Trial(100, 0.01, 1), "ok", metric=0.80),
    TrialResult(Trial(100, 0.02, 1), "diverged", metric=0.95),
    TrialResult(Trial(10, 0.01, 0), "ok", metric=0.55),
    TrialResult(Trial(20, 0.01, 0), "failed"),
    TrialResult(Trial(30, 0.01, 0), "ok", metric=math.nan),
    TrialResult(Trial(40, 0.01, 0), "ok"),
]


def test_points_are_means_over_seeds_of_the_best_over_learning_rates() -> None:
    assert curve(RECORDS) == (Point(10, {0: 0.55}, 1), Point(100, {0: 0.70, 1: 0.80}, 2))
    assert [point.best for point in curve(RECORDS)] == [0.55, 0.75]


def test_only_valid_runs_count() -> None:
    assert full_metric(RECORDS) == 0.80
    assert len(valid_results(RECORDS)) == 5


def test_a_d_passes_only_if_more_than_half_of_its_seeds_trained() -> None:
    def point(*statuses: Status) -> Point:
        runs = [
            TrialResult(Trial(10, 0.01, seed), status, 0.8) for seed, status in enumerate(statuses)
        ]
        return curve(runs)[0]

    assert point("ok").passes(0.8)
    assert not point("ok").passes(0.81)
    assert point("ok", "ok", "collapsed").passes(0.8)
    assert not point("ok", "diverged").passes(0.8)
    assert not point("ok", "collapsed", "collapsed").is_stable
    assert point("ok", "failed").is_stable
    again = [TrialResult(Trial(10, rate), "collapsed") for rate in (0.02, 0.04)]
    assert curve([*again, TrialResult(Trial(10, 0.01), "ok", 0.8)])[0].is_stable


def test_nothing() -> None:
    assert curve([]) == ()
    assert full_metric([]) is None


def test_passes_tolerates_only_rounding() -> None:
    assert 0.9 * 0.8 > 0.72
    assert passes(0.72, 0.9 * 0.8)
    assert not passes(0.7199, 0.9 * 0.8)
