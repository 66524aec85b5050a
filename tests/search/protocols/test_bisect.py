"""The binary search, against the answer of a full sweep and by hand."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from d90.errors import D90Error
from d90.search.protocols import BisectProtocol
from d90.search.trial import Trial, TrialResult

RATES = (0.004, 0.008, 0.016)
BASELINE = TrialResult(Trial(None, 1e-4, 0), "ok", metric=0.8)


def small(**changes: Any) -> BisectProtocol:
    """Rungs 100, 200, 400, ..., 12,800."""
    arguments: dict[str, Any] = {
        "min_dim": 100,
        "max_dim": 12_800,
        "ratio": 2.0,
        "learning_rates": RATES,
        "baseline_learning_rates": (1e-4,),
    }
    return BisectProtocol(**(arguments | changes))


def at(d: int, metrics: dict[float, float], seed: int = 0) -> list[TrialResult]:
    return [TrialResult(Trial(d, rate, seed), "ok", metric=m) for rate, m in metrics.items()]


def test_the_paper_ladder() -> None:
    dims = BisectProtocol().dimensions()
    assert (dims[0], dims[-1]) == (100, 4_000_000)
    assert len(dims) == 74
    assert all(1.13 < b / a < 1.18 for a, b in pairwise(dims))
    # 2 full runs; 7 steps halve 74 rungs, each at most with 4 learning rates and 2 extra seeds.
    assert BisectProtocol().max_trials() == 2 + 7 * 4 * 3


def test_rungs_of_the_example() -> None:
    assert small().dimensions() == (100, 200, 400, 800, 1600, 3200, 6400, 12_800)


@settings(max_examples=200, deadline=None)
@given(first=st.integers(-1, 30), seeds=st.sampled_from([(0,), (0, 1)]))
def test_finds_the_smallest_that_passes(first: int, seeds: tuple[int, ...]) -> None:
    protocol = BisectProtocol(
        min_dim=10, max_dim=20_000, ratio=1.3, learning_rates=RATES, seeds=seeds
    )
    dims = protocol.dimensions()
    d90 = dims[first] if 0 <= first < len(dims) else math.inf
    results: list[TrialResult] = []
    while trials := protocol.next_trials(results):
        for trial in trials:
            passes = trial.d is None or trial.d >= d90
            results.append(TrialResult(trial, "ok", metric=0.8 if passes else 0.6))
    failing, passing = protocol.bounds(results)
    assert passing == (None if math.isinf(d90) else d90)
    if first == 0:
        assert failing is None
    elif not math.isinf(d90):
        assert failing == dims[first - 1]
    visited = {result.trial.d for result in results} - {None}
    assert len(visited) <= math.ceil(math.log2(len(dims) + 1))


def test_all_learning_rates_at_the_first_dimension_then_the_best_one() -> None:
    protocol = small()
    assert protocol.next_trials([BASELINE]) == [Trial(800, rate) for rate in RATES]
    results = [BASELINE, *at(800, {0.004: 0.6, 0.008: 0.7, 0.016: 0.65})]  # 0.7 < 0.72
    assert protocol.next_trials(results) == [Trial(3200, 0.008)]
    results += at(3200, {0.008: 0.75})
    assert protocol.next_trials(results) == [Trial(1600, 0.008)]
    # It does not pass with the best rate so far: the others are tried before d fails.
    results += at(1600, {0.008: 0.71})
    assert protocol.next_trials(results) == [Trial(1600, 0.004), Trial(1600, 0.016)]
    assert protocol.bounds(results) == (800, 3200)
    passed = [*results, *at(1600, {0.004: 0.5, 0.016: 0.73})]
    assert protocol.next_trials(passed) == []
    assert protocol.bounds(passed) == (800, 1600)
    failed = [*results, *at(1600, {0.004: 0.5, 0.016: 0.715})]
    assert protocol.next_trials(failed) == []
    assert protocol.bounds(failed) == (1600, 3200)


def test_each_best_rate_met_before_goes_first() -> None:
    results = [BASELINE, *at(800, {0.004: 0.6, 0.008: 0.75, 0.016: 0.65})]
    results += at(200, {0.008: 0.6, 0.004: 0.61, 0.016: 0.5})  # Here 0.004 is the best.
    assert small().next_trials(results) == [Trial(400, 0.004), Trial(400, 0.008)]


def test_all_learning_rates_at_the_largest_dimensions_too() -> None:
    results = [BASELINE, *at(800, {0.004: 0.6, 0.008: 0.65, 0.016: 0.6})]
    for d in (3200, 6400):
        results += at(d, dict.fromkeys(RATES, 0.6))
    first = [Trial(12_800, 0.004), Trial(12_800, 0.008)]  # Each was the best at some d.
    assert small().next_trials(results) == first
    results += at(12_800, {0.004: 0.6, 0.008: 0.7})
    assert small().next_trials(results) == [Trial(12_800, 0.016)]


def collapsed(d: int, *seeds: int) -> list[TrialResult]:
    trials = [Trial(d, rate, seed) for seed in seeds for rate in RATES]
    return [TrialResult(trial, "collapsed", metric=0.5) for trial in trials]


def test_where_nothing_trained_the_next_seeds_are_tried_before_it_fails() -> None:
    protocol, results = small(), [BASELINE, *collapsed(800, 0)]
    assert protocol.next_trials(results) == [Trial(800, rate, 1) for rate in RATES]
    assert protocol.bounds(results) == (None, None)
    results += collapsed(800, 1)
    assert protocol.next_trials(results) == [Trial(800, rate, 2) for rate in RATES]
    results += collapsed(800, 2)
    # No best rate is known after that: all are requested again.
    assert protocol.next_trials(results) == [Trial(3200, rate) for rate in RATES]
    assert protocol.bounds(results) == (800, None)


def test_a_dimension_passes_after_a_collapse_only_if_most_seeds_train() -> None:
    protocol, results = small(), [BASELINE, *collapsed(800, 0)]
    one = [*results, *at(800, dict.fromkeys(RATES, 0.75), 1)]
    assert protocol.next_trials(one) == [Trial(800, rate, 2) for rate in RATES]
    two = [*one, *at(800, dict.fromkeys(RATES, 0.75), 2)]
    assert protocol.next_trials(two) == [Trial(200, 0.004)]
    assert protocol.bounds(two) == (None, 800)
    lucky = [*one, *collapsed(800, 2)]
    assert protocol.next_trials(lucky) == [Trial(3200, 0.004)]
    assert protocol.bounds(lucky) == (800, None)
    # Below the threshold no further seed can make it pass.
    low = [*results, *at(800, dict.fromkeys(RATES, 0.6), 1)]
    assert protocol.next_trials(low) == [Trial(3200, 0.004)]


def test_extra_seeds_follow_those_given() -> None:
    def extra(*seeds: int) -> set[int]:
        protocol = small(seeds=seeds)
        baseline = [TrialResult(trial, "ok", 0.8) for trial in protocol.baseline()]
        return {t.seed for t in protocol.next_trials([*baseline, *collapsed(800, *seeds)])}

    assert extra(0, 1, 3) == {2}
    assert extra(500) == {501}
    assert extra(2**64 - 1) == {0}


def test_two_neighbors_where_nothing_trained_end_the_search() -> None:
    protocol, results = small(), [BASELINE, *collapsed(800, 0, 1, 2), *collapsed(3200, 0, 1, 2)]
    assert protocol.next_trials(results) == []
    assert protocol.max_trials(results) == 0
    assert protocol.bounds(results) == (3200, None)


def test_below_a_dimension_that_passes_nothing_needs_to_train() -> None:
    results = [BASELINE, *at(800, {0.004: 0.6, 0.008: 0.65, 0.016: 0.6})]
    results += at(3200, {0.008: 0.75})  # A sharp curve: nothing trains below it.
    sharp = [*results, *collapsed(1600, 0, 1, 2)]
    assert small().next_trials(sharp) == []
    assert small().bounds(sharp) == (1600, 3200)
    results = [BASELINE, *at(800, {0.004: 0.75, 0.008: 0.6, 0.016: 0.6})]
    results += collapsed(200, 0, 1, 2)
    assert {trial.d for trial in small().next_trials(results)} == {400}
    results += collapsed(400, 0, 1, 2)
    assert small().bounds(results) == (400, 800)


def test_a_neighbor_that_trained_lets_the_search_go_on() -> None:
    results = [BASELINE, *collapsed(800, 0, 1, 2), *at(3200, dict.fromkeys(RATES, 0.6))]
    results += collapsed(6400, 0, 1, 2)
    assert {trial.d for trial in small().next_trials(results)} == {12_800}


def test_after_a_seed_that_did_not_train_the_other_rates_are_requested() -> None:
    protocol = small(seeds=(0, 1))
    results = [TrialResult(trial, "ok", 0.8) for trial in protocol.baseline()]
    for seed in (0, 1):
        results += at(800, {0.004: 0.6, 0.008: 0.7, 0.016: 0.65}, seed)
    assert protocol.next_trials(results) == [Trial(3200, 0.008, 0), Trial(3200, 0.008, 1)]
    results += [*at(3200, {0.008: 0.79}), TrialResult(Trial(3200, 0.008, 1), "collapsed", 0.5)]
    others = [Trial(3200, rate, seed) for rate in (0.004, 0.016) for seed in (0, 1)]
    assert protocol.next_trials(results) == others


def test_a_step_waits_for_all_its_trials() -> None:
    protocol = small()
    results = [BASELINE, *at(800, {0.004: 0.79})]  # It passes already.
    assert protocol.next_trials(results) == [Trial(800, 0.008), Trial(800, 0.016)]


def test_the_threshold_is_a_fraction_of_the_best_full_metric() -> None:
    results = [BASELINE, *at(800, {0.004: 0.6, 0.008: 0.6, 0.016: 0.65})]
    assert small(target_fraction=0.8).bounds(results) == (None, 800)
    assert small(target_fraction=0.9).bounds(results) == (800, None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ratio": 1.0}, r"ratio is 1\.0"),
        ({"ratio": math.nan}, "ratio is nan"),
        ({"min_dim": 20_000}, "min_dim is 20,000 and max_dim 12,800"),
    ],
)
def test_bad_arguments(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(D90Error, match=message):
        small(**changes)
