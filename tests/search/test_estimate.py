"""d90, its non-answers, its interval and its warnings: by hand, by property, by simulation."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from d90.errors import D90Error
from d90.search.criteria import PRETRAINED_MODEL
from d90.search.curve import curve, passes
from d90.search.estimate import Estimate, _monotone_warnings, estimate
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
    def test_the_first_that_passes(self) -> None:
        answer = ask(study({200: [0.75], 100: [0.72], 70: [0.71], 10: [0.6]}))
        assert (answer.status, answer.first_passing_d, answer.reason) == ("ok", 100, "")
        assert (answer.full_metric, answer.threshold) == (0.8, pytest.approx(0.72))
        assert answer.best == {10: 0.6, 70: 0.71, 100: 0.72, 200: 0.75}
        assert list(answer.best) == [10, 70, 100, 200]
        assert answer.warnings == ()

    def test_the_best_learning_rate_counts(self) -> None:
        results = [*study({10: [0.6], 14: [0.6]}), run(14, 0.75, rate=0.02), full(0.7, rate=1e-3)]
        answer = ask(results)
        assert (answer.first_passing_d, answer.full_metric) == (14, 0.8)

    def test_the_mean_over_seeds_of_the_best_of_each(self) -> None:
        results = study({10: [0.6, 0.6], 14: [0.70, 0.74], 20: [0.9, 0.5]})
        assert ask(results).first_passing_d == 14
        assert ask(results, target_fraction=0.91).first_passing_d is None
        better = [*results, run(20, 0.6, seed=1, rate=0.02)]
        assert ask(better, target_fraction=0.91).first_passing_d == 20

    def test_the_baseline_is_a_mean_over_seeds(self) -> None:
        seeds = [TrialResult(Trial(None, 1e-4, seed), "ok", 0.8 + 0.01 * seed) for seed in (1, 2)]
        assert ask([full(0.8), *seeds, full(0.805, rate=5e-5)]).full_metric == pytest.approx(0.81)

    def test_target_fraction(self) -> None:
        results = study({10: [0.6], 14: [0.68], 20: [0.8]})
        assert ask(results, target_fraction=0.8).first_passing_d == 14
        assert ask(results, target_fraction=1.0).first_passing_d == 20

    def test_d90_is_where_the_curve_crosses(self) -> None:
        answer, truth = simulated(random.Random(3), seeds=2, noise=0.01)
        found = ask(answer)
        assert found.d90 is not None
        assert found.d90 == pytest.approx(truth, rel=0.25)
        low, high = found.interval or (None, None)
        assert low is not None
        assert high is not None
        assert low < found.d90 < high
        medians = [point.median for point in found.band]
        assert medians == sorted(medians)
        assert all(point.low < point.median < point.high for point in found.band)
        crossing = next(p.d for p in found.band if p.median >= (found.threshold or 0))
        assert crossing == pytest.approx(found.d90, rel=0.2)

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
            (study({10: [0.76], 20: [0.8]}), "at-minimum", "d90 <= 10, an upper bound only"),
            (study({10: [0.76]}), "at-minimum", "d90 <= 10"),
        ],
    )
    def test_each_has_a_name_and_a_reason(
        self, results: list[TrialResult], status: str, reason: str
    ) -> None:
        answer = ask(results)
        assert answer.status == status
        assert answer.d90 is None
        assert (answer.interval is None) == (status not in ("above-maximum", "at-minimum"))
        with pytest.raises(AssertionError, match=reason):
            raise AssertionError(answer.reason)
        assert "\n" not in answer.reason

    def test_lucky_seeds_are_no_answer(self) -> None:
        steep = {100: [0.52] * 3, 300: [0.55] * 3, 3000: [0.79, None, None]}
        lucky = ask(study(steep))
        assert (lucky.status, lucky.interval, lucky.first_passing_d) == ("unstable", None, None)
        assert lucky.reason.startswith("only d = 3,000 reaches 0.7200, and no more than half")
        assert lucky.band
        trained = ask(study(steep | {3000: [0.79, 0.79, None]}))
        assert (trained.status, trained.first_passing_d) == ("ok", 3000)
        # Where the posterior does not believe the lucky run either, it answers.
        flat = {d: [0.55] * 3 for d in (100, 300, 1000, 3000, 6000, 10_000)}
        answer = ask(study(flat | {2000: [0.73, None, None]}))
        assert (answer.status, answer.first_passing_d) == ("above-maximum", None)

    def test_the_largest_dimensions_did_not_train(self) -> None:
        rising = {100: [0.55], 300: [0.6], 1000: [None], 3000: [None]}
        answer = ask(study(rising))
        assert answer.status == "unstable"
        assert "no run trained at the two largest d tried, 1,000, 3,000" in answer.reason
        assert ask(study(rising | {1000: [0.65]})).status == "above-maximum"
        assert ask(study(rising | {300: [0.75]})).status == "ok"

    def test_a_threshold_equal_to_the_majority_is_trivial(self) -> None:
        answer = estimate([full(0.8), run(10, 0.9)], majority=0.72, target_fraction=0.9)
        assert answer.status == "trivial-threshold"

    def test_a_pretrained_model_that_passes_is_an_answer(self) -> None:
        def answer(full_metric: float) -> Estimate:
            return estimate(
                [full(full_metric), run(10, 0.9)], majority=0.72, reference=PRETRAINED_MODEL
            )

        passes = answer(0.8)
        assert (passes.status, passes.d90) == ("already-satisfied", None)
        assert passes.reason.endswith("(0.7200) reaches the threshold 0.7200: d90 = 0")
        assert answer(0.72).status == "undefined-baseline"
        assert answer(0.81).status == "at-minimum"

    def test_a_miss_near_all_parameters_is_not_a_matter_of_dimension(self) -> None:
        results = study({10: [0.6] * 3, 20: [0.61] * 3})
        assert ask(results, D=40).status == ask(results).status == "above-maximum"
        for limited in (ask(results, D=39), ask(results, D=50, dims=(10, 20, 50))):
            assert (limited.status, limited.interval) == ("optimization-limited", None)
            assert "the optimization, not d" in limited.reason
        assert ask(results, D=50, dims=(10, 20, 49)).status == "above-maximum"
        assert ask(study({10: [0.6] * 3, 20: [0.79] * 3}), D=20).status == "ok"

    def test_one_sided_intervals(self) -> None:
        above, below = ask(study({10: [0.6], 20: [0.61]})), ask(study({10: [0.79], 20: [0.8]}))
        assert above.interval is not None
        assert above.interval[1] is None
        assert below.interval is not None
        assert below.interval[0] is None


class TestInterval:
    def test_more_seeds_narrow_it(self) -> None:
        few, many = (
            ask(simulated(random.Random(4), seeds=seeds, noise=0.02)[0]).interval
            for seeds in (1, 8)
        )
        assert ratio(many) < 0.7 * ratio(few)

    def test_the_noise_of_the_baseline_counts(self) -> None:
        generator = random.Random(4)
        results = [full()] + [
            run(d, 0.5 + 0.3 / (1 + (d / 150) ** -1.5) + generator.gauss(0, 0.01), seed=seed)
            for d in (100, 125, 160, 200, 250, 320, 400, 500, 640, 800, 1000)
            for seed in range(4)
        ]
        known = [TrialResult(Trial(None, 1e-4, seed), "ok", 0.8) for seed in range(1, 9)]
        assert ratio(ask([*results, *known]).interval) < ratio(ask(results).interval)

    def test_widened_to_the_gap_between_the_dimensions_tried(self) -> None:
        answer = ask(study({100: [0.56] * 9, 10_000: [0.79] * 9}))
        assert answer.interval == (100, 10_000)

    def test_the_same_every_time(self) -> None:
        results = simulated(random.Random(3), seeds=2, noise=0.02)[0]
        assert ask(results) == ask(results[::-1])

    def test_covers_the_truth(self) -> None:
        generator = random.Random(0)
        covered, studies = 0, 20
        for _ in range(studies):
            results, truth = simulated(generator, seeds=1, noise=0.01)
            low, high = ask(results).interval or (None, 0)
            covered += (low or 0) < truth <= (math.inf if high is None else high)
        assert covered >= 0.85 * studies


class TestWarnings:
    def test_a_fall_beyond_the_spread_over_seeds(self) -> None:
        flat = {d: [0.7, 0.72, 0.71] for d in (10, 12, 14, 16)}
        assert not falls(ask(study(flat)))
        fallen = flat | {16: [0.6, 0.62, 0.61]}
        # Pooled: variance 0.0001, standard error of each mean sqrt(0.0001 / 3) = 0.0058, of a
        # difference 0.0082; a fall of 0.1 is 12.2 of these.
        assert falls(ask(study(fallen))) == [
            "not monotone: the best metric falls from 0.7100 at d = 10 to 0.6100 at d = 16 "
            "(12.2 standard errors)",
        ]

    def test_a_fall_beyond_the_binomial_error(self) -> None:
        results = study({10: [0.6], 12: [0.71], 14: [0.69]})
        # sqrt(0.71 * 0.29 / n + 0.69 * 0.31 / n): a fall of 0.02 is 0.98 of it for n = 1,000,
        # 9.8 for n = 100,000.
        assert not falls(ask(results, evaluation_size=1000))
        warning = falls(ask(results, evaluation_size=100_000))[0]
        assert warning.endswith("to 0.6900 at d = 14 (9.8 standard errors)")

    def test_a_fall_with_no_measure_of_noise(self) -> None:
        warning = falls(ask(study({10: [0.6], 12: [0.71], 14: [0.69]})))[0]
        assert warning.endswith("(no known noise)")

    def test_false_alarms_are_rare(self) -> None:
        generator = random.Random(5)
        curves = (simulated(generator, seeds=2, noise=0.03)[0] for _ in range(100))
        alarms = sum(bool(_monotone_warnings(curve(results), None)) for results in curves)
        assert alarms <= 8

    def test_a_coarse_answer(self) -> None:
        coarse = [w for w in ask(study({100: [0.6], 1000: [0.75]})).warnings if "coarse" in w]
        assert coarse == ["coarse: d90 lies between 100 and 1,000, with no d tried between"]
        fine = ask(study({100: [0.6] * 5, 120: [0.66] * 5, 140: [0.73] * 5, 160: [0.75] * 5}))
        assert fine.status == "ok"
        assert fine.warnings == ()

    def test_the_first_that_passes_was_lucky(self) -> None:
        results, truth = simulated(random.Random(3), seeds=3, noise=0.005)
        lucky = [run(10, 0.75, seed=seed) for seed in range(3)]
        answer = ask([r for r in results if r.trial.d != 10] + lucky)
        assert answer.first_passing_d == 10
        assert answer.d90 == pytest.approx(truth, rel=0.6)
        assert any("that passes is 10, far from" in warning for warning in answer.warnings)
        assert any("does not reach the threshold, above" in w for w in answer.warnings)

    def test_a_threshold_close_to_the_majority_class(self) -> None:
        def weak(size: int | None, **arguments: Any) -> list[str]:
            answer = ask(study({10: [0.6], 12: [0.8]}), evaluation_size=size, **arguments)
            return [warning for warning in answer.warnings if "weak" in warning]

        # 0.72 is 0.22 above 0.5: two standard errors, 2 * 0.5 / sqrt(n), at n = 20.66.
        assert weak(21) == weak(None) == []
        assert weak(20) == [
            "weak-threshold: 0.7200 is 2.0 standard errors of 20 examples above the majority class "
            "(0.5000)"
        ]
        assert weak(400, target_fraction=0.67)
        assert not weak(400, target_fraction=0.7)

    def test_seeds_missing_somewhere(self) -> None:
        seeds = {10: [0.6, 0.6], 20: [None, 0.65, 0.65], 30: [None, 0.9], 40: [0.75], 60: [None]}
        answer = ask(study(seeds))
        assert "not every seed trained at d = 20" in answer.warnings
        unstable = "unstable at d = 30: no more than half of the seeds trained"
        assert unstable in answer.warnings
        assert answer.first_passing_d == 40
        assert unstable not in ask(study(seeds | {30: [None, 0.9, 0.9]})).warnings

    def test_no_run_trained_below(self) -> None:
        answer = ask(study({10: [None], 40: [0.73], 50: [0.78], 70: [0.8]}))
        assert "no run trained at d = 10: the curve has no point there" in answer.warnings

    def test_excluded_runs(self) -> None:
        results = [
            *study({10: [0.6], 14: [0.75], 20: [None]}),
            run(20, None, status="failed", rate=0.02),
            run(20, None, rate=0.04),
            full(0.5, "collapsed", rate=1e-3),
        ]
        assert ask(results).warnings[:2] == (
            "4 of 7 runs are excluded: 2 collapsed, 1 failed, 1 no metric",
            "no run trained at d = 20: the curve has no point there",
        )

    def test_a_stopped_run_counts_as_a_collapsed_one(self) -> None:
        results = study({10: [0.6, None], 14: [0.7, 0.71], 20: [0.75, None], 40: [0.77, 0.76]})
        stopped = [replace(r, status="stopped") if not r.is_valid else r for r in results]
        answer, expected = ask(stopped), ask(results)
        excluded, *others = answer.warnings
        assert excluded == "2 of 9 runs are excluded: 2 stopped"
        assert others == [*expected.warnings[1:]] != []
        assert replace(answer, warnings=()) == replace(expected, warnings=())
        ignored = [r for r in results if r.is_valid]
        assert ask(ignored).first_passing_d != answer.first_passing_d


def falls(answer: Estimate) -> list[str]:
    return [warning for warning in answer.warnings if "not monotone" in warning]


def ratio(interval: tuple[int | None, int | None] | None) -> float:
    low, high = interval or (None, None)
    assert low is not None
    assert high is not None
    return high / low


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


@settings(max_examples=25, deadline=None)
@given(studies, st.randoms())
def test_an_answer_or_a_reason_in_any_order(
    results: list[TrialResult], shuffler: random.Random
) -> None:
    answer = ask(results, evaluation_size=100)
    assert (answer.d90 is not None) == (answer.status == "ok") == (answer.reason == "")
    dims = [r.trial.d for r in results if r.trial.d is not None]
    if answer.d90 is not None:
        assert min(dims) <= answer.d90 <= max(dims)
    if answer.first_passing_d is not None:
        assert answer.threshold is not None
        assert passes(answer.best[answer.first_passing_d], answer.threshold)
    if answer.interval is not None:
        low, high = answer.interval
        assert low is None or high is None or low <= high
    shuffler.shuffle(results)
    assert ask(results, evaluation_size=100) == answer


def test_a_failed_run_changes_no_value() -> None:
    results = simulated(random.Random(3), seeds=1, noise=0.02)[0]
    before, after = ask(results), ask([*results, run(200, None, status="failed", seed=9)])
    assert (after.best, after.d90, after.interval) == (before.best, before.d90, before.interval)


def test_d90_grows_with_the_target_fraction() -> None:
    results = simulated(random.Random(3), seeds=1, noise=0.01)[0]
    d80, d90 = ask(results, target_fraction=0.8).d90, ask(results).d90
    assert d80 is not None
    assert d90 is not None
    assert d80 < d90
