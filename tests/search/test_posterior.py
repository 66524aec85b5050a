"""The sampler against a dense answer, and its answers on curves that are known."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest

from d90.search.curve_model import CurveModel, records, runs_of
from d90.search.ladder import ladder
from d90.search.posterior import Draws, Posterior, sample_posterior
from d90.search.trial import Trial, TrialResult

RATES = (0.002, 0.004, 0.008, 0.016)
BASELINE = [TrialResult(Trial(None, rate, 0), "ok", 0.84) for rate in (5e-5, 1e-4)]


def model_of(results: list[TrialResult]) -> CurveModel:
    return CurveModel(records(runs_of(results)), 0.5, 600, RATES, ladder(10, 100_000))


def curve_runs(log_d90: float, count: int, *, steepness: float = 1.5) -> list[TrialResult]:
    """Runs without noise, spread over the ladder, of a curve that crosses 0.9 * 0.84 there."""
    rise = math.log(0.256 / (0.34 - 0.256))
    dims = [round(10 * 10 ** (4 * i / (count - 1))) for i in range(count)]
    return [
        TrialResult(
            Trial(d, 0.008, 0),
            "ok",
            0.5 + 0.34 / (1 + math.exp(-steepness * (math.log(d) - log_d90) - rise)),
        )
        for d in dims
    ]


@pytest.mark.parametrize(
    "results",
    [
        [],
        [TrialResult(Trial(300, 0.008, 0), "ok", 0.70)],
        [
            TrialResult(Trial(100, 0.004, 0), "collapsed", 0.5),
            TrialResult(Trial(1000, 0.004, 0), "ok", 0.74),
            TrialResult(Trial(1000, 0.008, 0), "ok", 0.76),
        ],
    ],
    ids=["baseline", "one run", "three runs"],
)
def test_particles_agree_with_the_prior_reweighted(results: list[TrialResult]) -> None:
    model = model_of([*BASELINE, *results])
    draws = Draws(1)
    prior = model.sample_prior(draws.normal(400_000, 12), draws.uniform(400_000, 4))
    log_l = model.log_likelihood(prior)
    weights = np.exp(log_l - log_l.max())
    weights /= weights.sum()
    effective = 1 / np.sum(weights**2)
    assert effective > 200
    log_d90 = np.concatenate(
        [Posterior(model, p).log_d90 for p in np.array_split(prior, 40, axis=1)]
    )
    particles = sample_posterior(model, particles=4000)
    mean = weights @ log_d90
    deviation = math.sqrt(weights @ (log_d90 - mean) ** 2)
    error = deviation / math.sqrt(min(effective, 1000))
    assert particles.log_d90.mean() == pytest.approx(mean, abs=4 * error)
    assert particles.log_d90.std() == pytest.approx(deviation, rel=0.15)
    for row, name in ((1, "ln s"), (4, "ln tau"), (8, "logit c"), (11, "f")):
        expected = weights @ prior[row]
        spread = math.sqrt(weights @ (prior[row] - expected) ** 2)
        found = particles.theta[row].mean()
        assert found == pytest.approx(expected, abs=0.2 * spread), name


@pytest.mark.parametrize("log_d90", [math.log(150), math.log(900), math.log(6000)])
def test_a_curve_without_noise_is_found(log_d90: float) -> None:
    answer = sample_posterior(model_of([*BASELINE, *curve_runs(log_d90, 13)])).answer
    assert answer.status == "ok"
    assert answer.median is not None
    assert math.log(answer.median) == pytest.approx(log_d90, abs=0.15)
    low, high = answer.interval
    assert low is not None
    assert high is not None
    assert low < math.exp(log_d90) < high < 3 * low


def test_beyond_the_ends_of_the_ladder() -> None:
    easy = sample_posterior(model_of([*BASELINE, *curve_runs(math.log(1), 9)])).answer
    assert (easy.status, easy.median, easy.interval[0]) == ("at-minimum", None, None)
    assert easy.below > 0.9
    hard = sample_posterior(model_of([*BASELINE, *curve_runs(math.log(1e7), 9)])).answer
    assert (hard.status, hard.median, hard.interval[1]) == ("above-maximum", None, None)
    assert hard.above > 0.9
    assert easy.ratio == hard.ratio == math.inf


def test_the_order_of_the_runs_does_not_matter() -> None:
    runs = curve_runs(6.0, 4)
    bits = {
        sample_posterior(model_of([*order, *BASELINE]), particles=50).theta.tobytes()
        for order in permutations(runs)
    }
    assert len(bits) == 1


def test_draws() -> None:
    draws = Draws(5)
    uniform, normal = draws.uniform(1000, 20), draws.normal(1000, 20)
    assert uniform.min() > 0
    assert uniform.max() < 1
    assert uniform.mean() == pytest.approx(0.5, abs=0.01)
    assert (normal.mean(), normal.std()) == pytest.approx((0, 1), abs=0.03)
    assert (
        Draws(5).uniform(3).tolist() == Draws(5).uniform(3).tolist() != Draws(6).uniform(3).tolist()
    )
