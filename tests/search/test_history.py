"""What a study knew of d90 after each run."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import pytest
from benchmarks.protocols import run
from benchmarks.worlds import make_world

from d90.search.history import HistoryPoint, history
from d90.search.protocols import AdaptiveProtocol, Protocol, make_protocol
from d90.search.trial import TrialResult


@pytest.fixture(scope="module")
def study() -> tuple[Protocol, list[TrialResult]]:
    return run(AdaptiveProtocol(budget=12), make_world("logistic", 3, "paired"))


@pytest.fixture(scope="module")
def protocol(study: tuple[AdaptiveProtocol, list[TrialResult]]) -> AdaptiveProtocol:
    return study[0]


@pytest.fixture(scope="module")
def results(study: tuple[AdaptiveProtocol, list[TrialResult]]) -> list[TrialResult]:
    return study[1]


def test_it_has_the_posterior_after_each_run(
    protocol: AdaptiveProtocol, results: list[TrialResult]
) -> None:
    points = history(protocol, results)
    assert len(points) == len(results)
    for count, (point, result) in enumerate(zip(points, results, strict=True), start=1):
        assert (point.d, point.learning_rate, point.seed) == (
            result.trial.d,
            result.trial.learning_rate,
            result.trial.seed,
        )
        posterior = protocol.posterior(results[:count])
        assert posterior is not None
        low, high = posterior.answer.interval
        assert (point.low is None, point.high is None) == (low is None, high is None)
        if low is not None and high is not None:
            assert point.low == math.floor(low) and point.high == math.ceil(high)
            assert point.ratio == pytest.approx(high / low, rel=0.2)
    assert points[-1].ratio < points[4].ratio


def test_it_costs_nothing_where_the_study_has_just_run(
    protocol: AdaptiveProtocol, results: list[TrialResult]
) -> None:
    """The posteriors are those that chose the runs, which are kept."""
    began = time.perf_counter()
    history(protocol, results)
    assert time.perf_counter() - began < 0.2


def test_results_that_a_study_was_given_are_one_step(
    protocol: AdaptiveProtocol, results: list[TrialResult]
) -> None:
    begun = protocol.begin(workers=1, given=[result.trial for result in results[:7]])
    assert history(begun, results) == history(protocol, results)[6:]
    assert history(replace(protocol, budget=8), results) == history(protocol, results)[3:]


def test_protocols_without_a_posterior_have_none(results: list[TrialResult]) -> None:
    assert history(make_protocol("list", dims=[10, 100]), results) == ()


def test_an_open_end_has_no_ratio() -> None:
    assert HistoryPoint(10, 0.01, 0, None, 5, None).ratio == math.inf
    assert HistoryPoint(10, 0.01, 0, 20, 10, 40).ratio == 4
