"""The adaptive protocol: what it proposes, when it ends, and that its path can be replayed."""

from __future__ import annotations

import math
import random
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from benchmarks.worlds import World, make_world

from d90.errors import D90Error
from d90.search.curve_model import runs_of
from d90.search.proposals import _candidates
from d90.search.protocols import AdaptiveProtocol, Protocol
from d90.search.protocols.speculative import speculative_trials
from d90.search.trial import Trial, TrialResult


def finish(protocol: Protocol, world: World, results: list[TrialResult]) -> list[TrialResult]:
    """All results, from those that there are on."""
    results = list(results)
    while trials := protocol.next_trials(results):
        results += map(world.run, trials)
    return results


def protocol_of(world: World, **arguments: Any) -> AdaptiveProtocol:
    protocol = AdaptiveProtocol(**arguments)
    return protocol.for_task(majority=world.majority, evaluation_size=world.evaluation_size)


@pytest.fixture(scope="module")
def world() -> World:
    return make_world("logistic", 3, "paired")


@pytest.fixture(scope="module")
def results(world: World) -> list[TrialResult]:
    return finish(protocol_of(world), world, [])


def test_it_finds_d90_and_ends_when_the_interval_is_narrow(
    world: World, results: list[TrialResult]
) -> None:
    protocol = protocol_of(world)
    posterior = protocol.posterior(results)
    assert posterior is not None
    assert len(results) < 24
    assert posterior.answer.ratio <= 2
    before = protocol.posterior(results[:-1])
    assert before is not None
    assert before.answer.ratio > 2
    low, high = protocol.bounds(results)
    assert low is not None
    assert high is not None
    assert low < math.exp(world.log_d90) < high
    assert protocol.max_trials(results) == 0


def test_a_narrower_interval_takes_more_runs(world: World, results: list[TrialResult]) -> None:
    more = finish(protocol_of(world, interval_ratio=1.5), world, [])
    assert more[: len(results)] == results
    assert len(more) > len(results)


@pytest.mark.parametrize(
    ("family", "status"), [("easy", "at-minimum"), ("unreachable", "above-maximum")]
)
def test_it_ends_early_beyond_the_ladder(family: str, status: str) -> None:
    world = make_world(family, 0, "paired")
    protocol = protocol_of(world)
    results = finish(protocol, world, [])
    posterior = protocol.posterior(results)
    assert posterior is not None
    assert posterior.answer.status == status
    assert 6 <= len(results) < 20


@pytest.mark.parametrize("crossing", [13_833, None])
def test_it_looks_at_the_end_before_it_says_that_d90_is_beyond(crossing: int | None) -> None:
    """A curve that is flat over four decades and then rises: none that the prior expects."""

    def run(trial: Trial) -> TrialResult:
        if trial.d is None:
            return TrialResult(trial, "ok", 1.0)
        rise = 0.54 / (1 + (9000 / trial.d) ** 4) if crossing else 0.0
        return TrialResult(trial, "ok", 0.36 + 0.02 * math.log10(trial.d) + rise)

    protocol = AdaptiveProtocol(min_dim=1, max_dim=30_000)
    protocol = protocol.for_task(majority=0.35, evaluation_size=500)
    results: list[TrialResult] = []
    while trials := protocol.next_trials(results):
        results += map(run, trials)
    posterior = protocol.posterior(results)
    assert posterior is not None
    tried = [result.trial.d for result in results if result.trial.d is not None]
    if crossing is None:
        assert posterior.answer.status == "above-maximum"
        assert tried[-1] == 30_000 and max(tried[:-1]) < 30_000
        assert protocol.proposals(results[:-1])[0].reduction is None
    else:
        assert 30_000 in tried
        assert posterior.answer.median == pytest.approx(crossing, rel=0.15)


def test_any_prefix_is_replayed(world: World, results: list[TrialResult]) -> None:
    for count in (0, 1, 2, 5, len(results) - 1):
        assert protocol_of(world).next_trials(results[:count])[0] == results[count].trial
    shuffled = results[:-1]
    random.Random(0).shuffle(shuffled)
    assert protocol_of(world).next_trials(shuffled) == [results[-1].trial]


def test_a_round_stays_until_all_of_it_is_done(world: World) -> None:
    protocol = protocol_of(world, batch=4)
    baseline = [world.run(trial) for trial in protocol.next_trials([])]
    proposed = protocol.next_trials(baseline)
    assert len(set(proposed)) == 4
    done = [world.run(proposed[i]) for i in (2, 0)]
    assert protocol.next_trials([*baseline, *done]) == [proposed[1], proposed[3]]
    assert speculative_trials(protocol, baseline, 8) == []


def test_each_proposal_has_the_fraction_of_the_variance_that_it_takes_away(
    world: World, results: list[TrialResult]
) -> None:
    """For one run: the square of its correlation with ln d90, its noise included."""
    protocol, some = protocol_of(world), results[:9]
    posterior = protocol.posterior(some)
    assert posterior is not None
    (proposal,) = protocol.proposals(some)
    assert [proposal.trial] == protocol.next_trials(some)
    mean, noise = _candidates(posterior, runs_of(some))
    t = posterior.log_d90 - posterior.log_d90.mean()
    covariance = (mean - mean.mean(axis=1, keepdims=True)) @ t / len(t)
    explained = covariance**2 / ((mean.var(axis=1) + noise) * t.var())
    assert proposal.reduction is not None
    assert 0 < proposal.reduction <= explained.max() + 1e-12
    assert np.abs(explained - proposal.reduction).min() < 1e-12

    several = [p.reduction or 0 for p in protocol_of(world, batch=4).proposals(results[:2])]
    assert all(reduction > 0 for reduction in several) and sum(several) < 1
    assert protocol.proposals(results[:1]) == protocol.proposals(results) == []


def test_results_of_another_protocol_are_taken_as_given(world: World) -> None:
    protocol = protocol_of(world)
    baseline = [world.run(trial) for trial in protocol.next_trials([])]
    listed = [
        world.run(Trial(d, rate, 0)) for d in (30, 300, 1000, 3000) for rate in (0.004, 0.008)
    ]
    results = finish(protocol, world, [*baseline, *listed])
    posterior = protocol.posterior(results)
    assert posterior is not None
    assert len(posterior.model.records.x) == len(results) - len(
        [r for r in results if r.trial.is_full]
    )
    assert posterior.answer.ratio <= 2
    alone = finish(protocol, world, baseline)
    assert len(results) - len(listed) < len(alone)


def test_seeds_are_counted_from_the_first(world: World) -> None:
    protocol = protocol_of(world, seeds=[500], budget=14, interval_ratio=1.01)
    trials = [result.trial for result in finish(protocol, world, [])]
    assert len(trials) == 14
    baseline = len(protocol.baseline())
    assert [t.seed for t in trials[:baseline]] == [500] * baseline
    assert [t.seed for t in trials[baseline:]] == list(range(501, 501 + 14 - baseline))


def test_a_run_that_fails_again_and_again_ends_at_the_budget(world: World) -> None:
    protocol = protocol_of(world, budget=12)
    results: list[TrialResult] = []
    while trials := protocol.next_trials(results):
        results += [
            world.run(trial) if trial.is_full else TrialResult(trial, "failed") for trial in trials
        ]
    assert len(results) == 12


def test_a_proposal_is_quick(world: World) -> None:
    dims = protocol_of(world).dimensions()
    assert len(dims) >= 60
    given = [
        world.run(trial)
        for trial in (
            *protocol_of(world).next_trials([]),
            *(
                Trial(d, rate, seed)
                for d in dims[20:45:5]
                for rate in (0.004, 0.008)
                for seed in range(4)
            ),
        )
    ]
    assert len(given) >= 40
    protocol = protocol_of(world, budget=100, interval_ratio=1.001)
    protocol.next_trials([*given, world.run(Trial(10, 0.008, 0))])  # Imports and caches.
    start = time.process_time()
    assert protocol.next_trials(given)
    assert time.process_time() - start < 3  # 0.3 s on a quiet core; here beside other tests


@pytest.mark.parametrize("metric", [0.3, 0.5, 0.55])
def test_nothing_to_search_where_a_constant_predictor_passes(world: World, metric: float) -> None:
    protocol = protocol_of(world)
    baseline = [TrialResult(trial, "ok", metric) for trial in protocol.next_trials([])]
    assert protocol.next_trials(baseline) == []
    assert protocol.max_trials(baseline) == 0
    assert protocol.bounds(baseline) == (None, None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seeds": (0, 1)}, "seeds has 2 values"),
        ({"interval_ratio": 1.0}, r"interval_ratio is 1\.0"),
        ({"interval_ratio": math.inf}, "interval_ratio is inf"),
        ({"budget": 5}, "budget is 5: 2 runs of the baseline and 4 others"),
        ({"batch": 0}, "batch is 0"),
        ({"min_dim": 100, "max_dim": 10}, "min_dim is 100 and max_dim 10"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(D90Error, match=message):
        AdaptiveProtocol(**arguments)


def test_clip(world: World) -> None:
    clipped = protocol_of(world).clip(50, 700)
    assert (clipped.min_dim, clipped.max_dim) == (50, 700)
    assert clipped == replace(protocol_of(world), min_dim=50, max_dim=700)
    with pytest.raises(D90Error):
        clipped.clip(1, 20)
