"""d90, its non-answers, its interval and its warnings: by hand, by property, by simulation."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from d90.errors import D90Error
from d90.search.curve import passes
from d90.search.estimate import Estimate, estimate
from d90.search.trial import Status, Trial, TrialResult

MAJORITY = 0.5


def full(metric: float | None = 0.8, status: Status = "ok", rate: float = 1e-4) -> TrialResult:
    return TrialResult(Trial(None, rate), status, metric=metric)


def run(
    d: int, metric: float | None, *, seed: int = 0, status: Status = "ok", rate: float = 0.01
) -> TrialResult:
    return TrialResult(Trial(d, rate, seed), status, metric=metric)


def study(by_seed: Mapping[int, Sequence[float | None]]) -> list[TrialResult]:
    """A baseline of 0.8 and, at each d, the metrics of seeds 0, 1, ...; None is a failed run."""
    return [full()] + [
        run(d, metric, seed=seed, status="collapsed" if metric is None else "ok")
        for d, metrics in by_seed.items()
        for seed, metric in enumerate(metrics)
    ]


def ask(results: Sequence[TrialResult], **arguments: Any) -> Estimate:
    return estimate(results, majority=MAJORITY, **arguments)


class TestAnswer:
    def test_the_smallest_that_reaches(self) -> None:
        answer = ask(study({200: [0.75], 100: [0.72], 70: [0.71], 10: [0.6]}))
        assert (answer.status, answer.d90, answer.reason) == ("ok", 100, "")
        assert (answer.full_metric, answer.threshold) == (0.8, pytest.approx(0.72))
        assert answer.best == {10: 0.6, 70: 0.71, 100: 0.72, 200: 0.75}
        assert list(answer.best) == [10, 70, 100, 200]
        assert answer.warnings == ()

    def test_the_best_learning_rate_counts(self) -> None:
        results = [*study({10: [0.6], 14: [0.6]}), run(14, 0.75, rate=0.02), full(0.7, rate=1e-3)]
        answer = ask(results)
        assert (answer.d90, answer.full_metric) == (14, 0.8)

    def test_the_mean_over_seeds_of_the_best_of_each(self) -> None:
        results = study({10: [0.6, 0.6], 14: [0.70, 0.74], 20: [0.9, 0.5]})
        assert ask(results).d90 == 14
        assert ask(results, target_fraction=0.91).d90 is None
        better = [*results, run(20, 0.6, seed=1, rate=0.02)]
        assert ask(better, target_fraction=0.91).d90 == 20

    def test_target_fraction(self) -> None:
        results = study({10: [0.6], 14: [0.68], 20: [0.8]})
        assert ask(results, target_fraction=0.8).d90 == 14
        assert ask(results, target_fraction=1.0).d90 == 20

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"target_fraction": 0}, "target_fraction is 0"),
            ({"target_fraction": 1.5}, "target_fraction is 1.5"),
            ({"evaluation_size": 0}, "evaluation_size is 0"),
        ],
    )
    def test_bad_arguments(self, arguments: dict[str, float], message: str) -> None:
        with pytest.raises(D90Error, match=message):
            ask([], **arguments)


class TestNonAnswers:
    @pytest.mark.parametrize(
        ("results", "status", "reason"),
        [
            ([], "undefined-baseline", "there is none yet"),
            ([run(10, 0.9)], "undefined-baseline", "there is none yet"),
            ([full(0.5, "collapsed"), run(10, 0.9)], "undefined-baseline", "none of 1 full"),
            ([full(0.5), run(10, 0.9)], "undefined-baseline", "0.5000, which does not beat"),
            ([full(0.55), run(10, 0.6)], "trivial-threshold", "0.4950 is not above"),
            ([full()], "unstable", "no subspace run yet"),
            ([full(), run(10, 0.5, status="collapsed")], "unstable", "none of 1 subspace runs"),
            (study({10: [0.7], 20: [0.6]}), "above-maximum", "no d up to 20 .*0.7000 at d = 10"),
            (study({10: [0.73], 20: [0.8]}), "at-minimum", "d90 <= 10, an upper bound only"),
            (study({10: [0.73], 20: [0.6]}), "at-minimum", "d90 <= 10"),
        ],
    )
    def test_each_has_a_name_and_a_reason(
        self, results: list[TrialResult], status: str, reason: str
    ) -> None:
        answer = ask(results)
        assert answer.status == status
        assert (answer.d90, answer.interval) == (None, None)
        with pytest.raises(AssertionError, match=reason):
            raise AssertionError(answer.reason)
        assert "\n" not in answer.reason

    def test_a_threshold_equal_to_the_majority_is_trivial(self) -> None:
        answer = estimate([full(0.8), run(10, 0.9)], majority=0.72, target_fraction=0.9)
        assert answer.status == "trivial-threshold"

    def test_only_failures_below_do_not_make_a_minimum(self) -> None:
        answer = ask(study({10: [None], 14: [0.75], 20: [0.8]}))
        assert (answer.status, answer.d90) == ("ok", 14)
        assert "no run trained below d90 = 14: d90 may be smaller" in answer.warnings
        assert "no run trained at d = 10: the curve has no point there" in answer.warnings


class TestInterval:
    def test_one_seed_has_none(self) -> None:
        assert ask(study({10: [0.6], 14: [0.75]})).interval is None

    def test_seeds_that_agree_leave_the_resolution(self) -> None:
        answer = ask(study({10: [0.6, 0.6], 14: [0.65, 0.65], 20: [0.75, 0.75]}))
        assert (answer.d90, answer.interval) == (20, (14, 20))

    def test_seeds_that_disagree(self) -> None:
        # Seed 0 alone crosses between 10 and 20, seed 1 alone between 40 and 80: each is a
        # quarter of the bootstrap samples.
        metrics = {10: [0.6, 0.6], 20: [0.73, 0.62], 40: [0.75, 0.66], 80: [0.77, 0.79]}
        answer = ask(study(metrics))
        assert (answer.d90, answer.interval) == (80, (10, 80))

    def test_open_ends(self) -> None:
        above = ask(study({10: [0.5, 0.5], 20: [0.6, 0.6], 40: [0.79, 0.66]}))
        assert (above.d90, above.interval) == (40, (20, None))
        below = ask(study({10: [0.73, 0.6], 20: [0.75, 0.75]}))
        assert (below.d90, below.interval) == (20, (None, 20))

    def test_seeds_missing_somewhere(self) -> None:
        # At 20 only seed 1 trained: samples of seed 0 alone skip that d.
        answer = ask(study({10: [0.6, 0.6], 20: [None, 0.65], 40: [0.75, 0.75]}))
        assert (answer.d90, answer.interval) == (40, (10, 40))
        assert "fewer than 2 seeds trained at d = 20" in answer.warnings

    def test_a_lucky_point_is_smoothed_away(self) -> None:
        lucky = {10: [0.6, 0.6], 20: [0.73, 0.73], 40: [0.6, 0.6], 80: [0.76, 0.76]}
        answer = ask(study(lucky))
        assert (answer.d90, answer.interval) == (20, (40, 80))
        assert any("not monotone" in warning for warning in answer.warnings)
        assert "d = 40 does not reach the threshold, above d90 = 20" in answer.warnings

    def test_the_same_every_time(self) -> None:
        results = simulated(random.Random(3), seeds=6, noise=0.02)[0]
        assert ask(results) == ask(results[::-1])

    def test_covers_the_truth(self) -> None:
        generator = random.Random(0)
        covered, studies = 0, 60
        for _ in range(studies):
            results, truth = simulated(generator, seeds=3, noise=0.01)
            low, high = ask(results).interval or (None, 0)
            covered += (low or 0) < truth <= (math.inf if high is None else high)
        assert covered >= 0.9 * studies


class TestWarnings:
    def test_a_fall_beyond_the_spread_over_seeds(self) -> None:
        flat = {d: [0.7, 0.72, 0.71] for d in (10, 12, 14, 16)}
        assert ask(study(flat)).warnings == ()
        fallen = flat | {16: [0.6, 0.62, 0.61]}
        # Pooled: variance 0.0001, standard error of each mean sqrt(0.0001 / 3) = 0.0058, of a
        # difference 0.0082; a fall of 0.1 is 12.2 of these.
        assert ask(study(fallen)).warnings == (
            "not monotone: the best metric falls from 0.7100 at d = 10 to 0.6100 at d = 16 "
            "(12.2 standard errors)",
        )

    def test_a_fall_beyond_the_binomial_error(self) -> None:
        results = study({10: [0.6], 12: [0.71], 14: [0.69]})
        # sqrt(0.71 * 0.29 / n + 0.69 * 0.31 / n): a fall of 0.02 is 0.98 of it for n = 1,000,
        # 9.8 for n = 100,000.
        assert ask(results, evaluation_size=1000).warnings == ()
        warning = ask(results, evaluation_size=100_000).warnings[0]
        assert warning.endswith("to 0.6900 at d = 14 (9.8 standard errors)")

    def test_a_fall_with_no_measure_of_noise(self) -> None:
        warning = ask(study({10: [0.6], 12: [0.71], 14: [0.69]})).warnings[0]
        assert warning.endswith("(no known noise)")

    def test_false_alarms_are_rare(self) -> None:
        generator = random.Random(5)
        alarms = sum(
            any("monotone" in w for w in ask(simulated(generator, seeds=2, noise=0.03)[0]).warnings)
            for _ in range(100)
        )
        assert alarms <= 8

    def test_a_coarse_answer(self) -> None:
        assert ask(study({100: [0.6], 1000: [0.75]})).warnings == (
            "coarse: d90 lies above 100 and at most at 1,000, with no d tried between",
        )
        assert ask(study({100: [0.6], 150: [0.75]})).warnings == ()

    def test_two_seeds(self) -> None:
        few = "the interval rests on 2 seeds: it may well be too narrow"
        assert ask(study({10: [0.6] * 2, 14: [0.75] * 2})).warnings == (few,)
        assert ask(study({10: [0.6] * 3, 14: [0.75] * 3})).warnings == ()
        assert ask(study({10: [0.6], 14: [0.75]})).warnings == ()

    def test_excluded_runs(self) -> None:
        results = [
            *study({10: [0.6], 14: [0.75], 20: [None]}),
            run(20, None, status="failed", rate=0.02),
            run(20, None, rate=0.04),
            full(0.5, "collapsed", rate=1e-3),
        ]
        assert ask(results).warnings == (
            "4 of 7 runs are excluded: 2 collapsed, 1 failed, 1 no metric",
            "no run trained at d = 20: the curve has no point there",
        )


def simulated(
    generator: random.Random, *, seeds: int, noise: float
) -> tuple[list[TrialResult], float]:
    """A logistic curve with noise on every run, and the d at which it truly crosses 0.72."""
    middle, slope = math.exp(generator.uniform(4, 6)), generator.uniform(0.8, 2.0)
    results = [full()]
    for d in (10, 20, 40, 80, 160, 320, 640, 1280, 2560, 5120):
        metric = 0.5 + 0.3 / (1 + (d / middle) ** -slope)
        results += [run(d, metric + generator.gauss(0, noise), seed=s) for s in range(seeds)]
    return results, middle * (0.22 / 0.08) ** (1 / slope)


metrics = st.one_of(st.none(), st.floats(0, 1))
studies = st.dictionaries(
    st.integers(1, 10**6), st.lists(metrics, min_size=1, max_size=3), max_size=6
).map(study)


@settings(max_examples=150, deadline=None)
@given(studies)
def test_an_answer_or_a_reason(results: list[TrialResult]) -> None:
    answer = ask(results, evaluation_size=100)
    assert (answer.d90 is not None) == (answer.status == "ok") == (answer.reason == "")
    if answer.d90 is not None:
        assert answer.threshold is not None
        assert passes(answer.best[answer.d90], answer.threshold)
        assert not any(
            passes(m, answer.threshold) for d, m in answer.best.items() if d < answer.d90
        )
    if answer.interval is not None:
        low, high = answer.interval
        assert low is None or high is None or low < high
        assert {low, high} <= {None, *answer.best}


@settings(max_examples=100, deadline=None)
@given(studies, st.randoms())
def test_the_order_of_the_results_does_not_matter(
    results: list[TrialResult], shuffler: random.Random
) -> None:
    shuffled = list(results)
    shuffler.shuffle(shuffled)
    assert ask(shuffled) == ask(results)


@settings(max_examples=100, deadline=None)
@given(studies, st.integers(1, 10**6))
def test_an_excluded_run_changes_no_value(results: list[TrialResult], d: int) -> None:
    before, after = ask(results), ask([*results, run(d, 0.99, status="collapsed", seed=9)])
    assert after.best == before.best
    if before.status == after.status:
        assert (after.d90, after.interval) == (before.d90, before.interval)


@settings(max_examples=100, deadline=None)
@given(studies, st.floats(0.7, 1), st.floats(0.7, 1))
def test_d90_grows_with_the_target_fraction(
    results: list[TrialResult], one: float, other: float
) -> None:
    low, high = sorted((one, other))
    at_low, at_high = ask(results, target_fraction=low), ask(results, target_fraction=high)
    if at_low.d90 is not None and at_high.d90 is not None:
        assert at_low.d90 <= at_high.d90
