"""The model of the curve against values worked out by hand and by scipy."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm

from d90.search.curve_model import (
    CurveModel,
    Parameters,
    _log_normal_by_group,
    records,
    runs_of,
)
from d90.search.ladder import ladder
from d90.search.trial import Status, Trial, TrialResult

NAMES = ("x0", "ln s", "a", "b", "ln tau", "u0", "g", "ln w", "logit c", "ln omega", "ln phi", "f")
THETA = np.array([[6.0, 0.0, 0.9, 0.01, -4.0, -0.5, 0.1, 0.7, -2.0, -5.0, -5.0, 0.8]]).T
RESULTS = [
    TrialResult(Trial(None, 1e-4, 0), "ok", 0.81),
    TrialResult(Trial(None, 1e-4, 1), "diverged", 0.5),
    TrialResult(Trial(400, 0.008, 0), "ok", 0.66),
    TrialResult(Trial(400, 0.016, 0), "ok", 0.64),
    TrialResult(Trial(900, 0.008, 0), "ok", 0.71),
    TrialResult(Trial(50, 0.008, 0), "collapsed", 0.5),
    TrialResult(Trial(60, 0.008, 0), "failed"),
]
MODEL = CurveModel(records(runs_of(RESULTS)), 0.5, 600, (0.004, 0.008), ladder(10, 10_000))


def mu_rise(d: int, rate: float) -> float:
    """mu - M by the formulas of the module, with THETA's numbers."""
    x, u, center = math.log(d), math.log2(rate / 0.008), math.log(10 * 10_000) / 2
    rise = 0.3 * (0.9 / (1 + math.exp(-(x - 6))) + 0.01 * math.log1p(math.exp(x - 6)))
    return rise * math.exp(-(((u + 0.5 - 0.1 * (x - center)) / math.exp(0.7)) ** 2) / 2)


def test_rise_and_rate_factor() -> None:
    p = Parameters(THETA)
    x, u = np.log([50.0, 400.0]), np.array([0.0, 1.0])
    found = MODEL.rise(p, x) * MODEL.rate_factor(p, x, u)
    assert found[:, 0] == pytest.approx([mu_rise(50, 0.008), mu_rise(400, 0.016)])
    assert MODEL.rises(p).shape == (2, len(MODEL.dims), 1)
    assert MODEL.rises(p)[:, 0, 0] == pytest.approx([mu_rise(10, 0.004), mu_rise(10, 0.008)])
    assert MODEL.needed(p)[0] == pytest.approx(0.9 * 0.8 - 0.5)


def test_the_curve_stays_below_one() -> None:
    steep = THETA.copy()
    steep[3] = 1.0
    assert MODEL.rise(Parameters(steep), np.array([40.0]))[0, 0] == pytest.approx(0.5)


def test_log_likelihood() -> None:
    tau, omega, phi, c = math.exp(-4), math.exp(-5), math.exp(-5), 1 / (1 + math.exp(2))

    def collapse(d: int, rate: float) -> float:
        return c + (1 - c) * math.exp(-mu_rise(d, rate) / (0.06 * 0.3))

    shared: Any = np.full((2, 2), omega**2) + tau**2 * np.eye(2)
    expected = (
        norm.logpdf(0.81, 0.8, phi)
        + multivariate_normal.logpdf(
            [0.66, 0.64], [0.5 + mu_rise(400, 0.008), 0.5 + mu_rise(400, 0.016)], shared
        )
        + norm.logpdf(0.71, 0.5 + mu_rise(900, 0.008), math.hypot(tau, omega))
        + math.log(collapse(50, 0.008))
        + sum(math.log(1 - collapse(d, r)) for d, r in ((400, 0.008), (400, 0.016), (900, 0.008)))
    )
    constant = 4 * 0.5 * math.log(2 * math.pi)
    assert MODEL.log_likelihood(THETA)[0] == pytest.approx(expected + constant)


def test_a_shared_effect_integrates_out() -> None:
    rng = np.random.default_rng(0)
    residual, membership = rng.normal(size=(5, 2)), np.array([[1, 0]] * 3 + [[0, 1]] * 2, float)
    tau2, omega2 = np.array([0.5, 2.0]), np.array([0.3, 1.0])
    found = _log_normal_by_group(residual, np.array([0, 3]), tau2, omega2)
    for i in range(2):
        covariance = omega2[i] * membership @ membership.T + tau2[i] * np.eye(5)
        expected = multivariate_normal.logpdf(residual[:, i], np.zeros(5), covariance)
        assert found[i] == pytest.approx(expected + 2.5 * math.log(2 * math.pi))


@pytest.mark.parametrize("status", ["stopped", "diverged"])
def test_a_run_that_was_ended_early_counts_as_collapsed(status: Status) -> None:
    ended = [replace(r, status=status) if r.status == "collapsed" else r for r in RESULTS]
    other = replace(MODEL, records=records(runs_of(ended)))
    assert other.log_likelihood(THETA) == MODEL.log_likelihood(THETA)
    without = records(runs_of(r for r in RESULTS if r.status != "collapsed"))
    assert replace(MODEL, records=without).log_likelihood(THETA) != MODEL.log_likelihood(THETA)


def test_a_failed_run_says_nothing_and_order_does_not_matter() -> None:
    without = [r for r in RESULTS if r.status != "failed"]
    for results in (without, RESULTS[::-1]):
        other = replace(MODEL, records=records(runs_of(results)))
        assert other.log_likelihood(THETA) == MODEL.log_likelihood(THETA)


@pytest.mark.parametrize(
    ("column", "value"),
    [(0, math.log(10) - 1.6), (0, math.log(10_000) + 1.6), (2, 0.02), (2, 1.3), (11, 0.504)],
)
def test_outside_the_support(column: int, value: float) -> None:
    outside = THETA.copy()
    outside[column] = value
    assert np.isfinite(MODEL.log_prior(THETA)).all()
    assert MODEL.log_prior(outside)[0] == -np.inf


def test_the_prior_is_sampled_as_its_density_says() -> None:
    rng = np.random.default_rng(0)
    two = [*RESULTS, TrialResult(Trial(None, 5e-5, 0), "ok", 0.80)]
    model = replace(MODEL, records=records(runs_of(two)))
    sample = model.sample_prior(rng.normal(size=(40_000, 12)), rng.uniform(size=(40_000, 4)))
    # Under its own density, the ratio to a density nearby has a mean of 1.
    shift = np.zeros((len(sample), 1))
    shift[[1, 4, 5, 8]] = 0.1
    ratio = np.exp(model.log_prior(sample + shift) - model.log_prior(sample))
    assert ratio.mean() == pytest.approx(1, abs=4 * ratio.std() / math.sqrt(len(ratio)))
    lag = sample[11:].max(axis=0) - sample[11:].min(axis=0)
    assert np.median(lag) == pytest.approx(0.015, rel=0.05)
    assert np.mean(sample[11] > sample[12]) == pytest.approx(0.5, abs=0.02)
