"""What holds for every protocol: baseline first, no trial twice, an honest bound."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from d90.errors import D90Error
from d90.search.protocols import (
    PROTOCOLS,
    AdaptiveProtocol,
    BisectProtocol,
    GridProtocol,
    ListProtocol,
    Protocol,
    make_protocol,
)
from d90.search.trial import Status, Trial, TrialResult

FULL = (5e-5, 1e-4)
RATES = (0.004, 0.008, 0.016)
SMALL: dict[str, Protocol] = {
    "adaptive": AdaptiveProtocol(
        learning_rates=RATES, budget=15, batch=3, majority=0.5, evaluation_size=600
    ),
    "bisect": BisectProtocol(
        min_dim=10, max_dim=40_000, ratio=2.0, learning_rates=RATES, seeds=(0, 1)
    ),
    "grid": GridProtocol(min_dim=10, max_dim=100, num_dims=5, learning_rates=RATES, seeds=(0, 1)),
    "list": ListProtocol(dims=(100, 10), learning_rates=RATES, seeds=(0, 1)),
}


def finish(
    protocol: Protocol, run: Callable[[Trial], TrialResult], *, batch: int | None = None
) -> list[TrialResult]:
    """Run a protocol to its end, `batch` trials (or all there are) at a time."""
    results: list[TrialResult] = []
    while trials := protocol.next_trials(results):
        results += [run(trial) for trial in trials[:batch]]
    return results


def logistic(d90: float) -> Callable[[Trial], TrialResult]:
    """A model whose curve crosses 0.9 * 0.8 at that d, at every learning rate and seed."""

    def run(trial: Trial) -> TrialResult:
        if trial.d is None:
            return TrialResult(trial, "ok", metric=0.8)
        odds = math.log(0.22 / 0.08) + 2 * math.log(trial.d / d90)
        return TrialResult(trial, "ok", metric=0.5 + 0.3 / (1 + math.exp(-odds)))

    return run


def test_every_protocol_is_swept() -> None:
    assert SMALL.keys() == PROTOCOLS.keys()


@pytest.mark.parametrize("name", SMALL)
class TestContract:
    def test_baseline_comes_first_and_alone(self, name: str) -> None:
        protocol = SMALL[name]
        baseline = [Trial(None, rate, seed) for rate in FULL for seed in protocol.seeds]
        assert protocol.next_trials([]) == baseline == protocol.baseline()
        one = [TrialResult(baseline[1], "ok", metric=0.8)]
        assert protocol.next_trials(one) == [baseline[0], *baseline[2:]]

    @pytest.mark.parametrize("status", ["collapsed", "stopped", "diverged", "failed"])
    def test_nothing_to_search_without_a_baseline(self, name: str, status: Status) -> None:
        baseline = SMALL[name].baseline()
        invalid = [TrialResult(trial, status, metric=0.5) for trial in baseline]
        assert SMALL[name].next_trials(invalid) == []
        assert SMALL[name].max_trials(invalid) == 0
        assert SMALL[name].bounds(invalid) == (None, None)

    def test_no_trial_is_requested_twice(self, name: str) -> None:
        statuses: Sequence[Status] = get_args(Status)

        def run(trial: Trial) -> TrialResult:
            status = "ok" if trial.is_full else statuses[hash(trial) % len(statuses)]
            return TrialResult(trial, status, metric=0.8)

        trials = [result.trial for result in finish(SMALL[name], run, batch=2)]
        assert len(trials) == len(set(trials)) <= SMALL[name].max_trials()

    @settings(max_examples=30, deadline=None)
    @given(d90=st.floats(5, 100_000), batch=st.integers(1, 7))
    def test_the_bound_holds_at_every_step(self, name: str, d90: float, batch: int) -> None:
        protocol, run = SMALL[name], logistic(d90)
        results: list[TrialResult] = []
        bound = protocol.max_trials()
        while trials := protocol.next_trials(results):
            left = protocol.max_trials(results)
            assert len(trials) <= left <= bound - len(results)
            results += [run(trial) for trial in trials[:batch]]
        assert protocol.max_trials(results) == 0
        assert {result.trial.d for result in results} <= {None, *protocol.dimensions()}

    @settings(max_examples=20, deadline=None)
    @given(d90=st.floats(5, 100_000), batch=st.integers(1, 7))
    def test_the_path_does_not_depend_on_how_many_run_at_once(
        self, name: str, d90: float, batch: int
    ) -> None:
        process_group = {r.trial for r in finish(SMALL[name], logistic(d90))}
        apart = {r.trial for r in finish(SMALL[name], logistic(d90), batch=batch)}
        assert process_group == apart

    def test_all_finished_means_bracketed(self, name: str) -> None:
        failing, passing = SMALL[name].bounds(finish(SMALL[name], logistic(60)))
        assert failing is not None
        assert passing is not None
        assert failing < 60 <= passing

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"learning_rates": ()}, "learning_rates is empty"),
            ({"learning_rates": (0.1, -1.0)}, r"learning_rates has -1\.0: .*positive"),
            ({"baseline_learning_rates": (math.inf,)}, "baseline_learning_rates has inf"),
            ({"learning_rates": (0.1, 0.1)}, r"learning_rates has 0\.1 twice"),
            ({"seeds": ()}, "seeds is empty"),
            ({"seeds": (0, -1)}, "seeds has -1: expected whole numbers from 0 to"),
            ({"target_fraction": 0.0}, r"target_fraction is 0\.0"),
            ({"target_fraction": 1.1}, r"target_fraction is 1\.1"),
        ],
    )
    def test_bad_arguments(self, name: str, arguments: dict[str, Any], message: str) -> None:
        dims = {"dims": (10,)} if name == "list" else {}
        with pytest.raises(D90Error, match=message) as error:
            PROTOCOLS[name](**dims, **arguments)
        assert "\n" not in str(error.value)


def test_bounds_ignore_a_dimension_with_trials_left() -> None:
    protocol = SMALL["list"]
    results = finish(protocol, logistic(60))
    unfinished = [r for r in results if r.trial != Trial(100, 0.016, 1)]
    assert protocol.bounds(results) == (10, 100)
    assert protocol.bounds(unfinished) == (10, None)


def test_bounds_of_a_curve_that_is_not_monotone() -> None:
    protocol = ListProtocol(
        dims=(10, 20, 40, 80), learning_rates=(0.01,), baseline_learning_rates=(1e-4,)
    )
    metrics = {None: 0.8, 10: 0.5, 20: 0.75, 40: 0.6, 80: 0.78}
    results = finish(protocol, lambda trial: TrialResult(trial, "ok", metric=metrics[trial.d]))
    assert protocol.bounds(results) == (10, 20)


def test_make_passes_the_arguments_of_the_protocol() -> None:
    assert make_protocol("list", dims=[100, 10]).dimensions() == (10, 100)
    assert make_protocol("grid", min_dim=10, max_dim=1000, num_dims=3).dimensions() == (
        10,
        100,
        1000,
    )
    assert make_protocol("grid").dimensions() == GridProtocol().dimensions()
    assert make_protocol("bisect", max_dim=1000).dimensions()[-1] == 1000


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("bisct", {}, "unknown protocol 'bisct': did you mean 'bisect'"),
        ("grid", {"dims": [10]}, "'grid' takes no dims: .*protocol list"),
        ("list", {"dims": [10], "min_dim": 5}, "'list' takes no min_dim: .*bisect or grid"),
        ("bisect", {"num_dims": 5}, "'bisect' takes no num_dims"),
        ("list", {}, "protocol 'list' needs dims"),
        ("list", {"dims": []}, "dims is empty"),
        ("list", {"dims": [0]}, "dims has 0"),
        ("list", {"dims": [10, 10]}, "dims has 10 twice"),
        ("grid", {"min_dim": 100, "max_dim": 10}, "min_dim is 100 and max_dim 10"),
        ("grid", {"num_dims": 1}, "num_dims is 1"),
        ("bisect", {"min_dim": 0}, "min_dim has 0"),
    ],
)
def test_make_refuses(name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(D90Error, match=message):
        make_protocol(name, **arguments)


def test_no_torch() -> None:
    """Protocols, estimators and the store work on a machine without torch."""
    code = (
        "import sys, d90.search.curve, d90.search.protocols, d90.storage.store; "
        "import d90.search.estimate as e; "
        "from d90.search.trial import Trial, TrialResult; "
        "e.estimate([TrialResult(Trial(d, .1, s), 'ok', .8) for d in (None, 1, 2) for s in (0, 1)],"
        " majority=.1); "
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
