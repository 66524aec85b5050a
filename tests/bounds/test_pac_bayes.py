"""The PAC-Bayes kl bound: by hand, in its limits, and as a promise."""

from __future__ import annotations

import math

import numpy as np
import pytest

from d90.bounds import binary_kl, pac_bayes_kl, universal_divergence
from d90.errors import D90Error


def test_by_hand() -> None:
    """An error of 0 has kl(0 || p) = -ln(1 - p), so the bound is 1 - exp(-nats / m)."""
    nats = 5 + math.log(2 * math.sqrt(400) / 0.05)
    found = pac_bayes_kl(0, divergence=5, examples=400)
    assert found == pytest.approx(1 - math.exp(-nats / 400))
    found = pac_bayes_kl(0.2, divergence=5, examples=400)
    assert binary_kl(0.2, found) == pytest.approx(nats / 400)


def test_the_universal_prior() -> None:
    assert universal_divergence(1) == pytest.approx(math.log(2))
    assert universal_divergence(1024) == pytest.approx(1024 * math.log(2) + 20 * math.log(2))


def test_limits_and_order() -> None:
    assert pac_bayes_kl(0.3, divergence=10, examples=10**14) == pytest.approx(0.3, abs=1e-5)
    for values in (
        [pac_bayes_kl(0.1, divergence=k, examples=100) for k in (0, 1, 10, 100)],
        [pac_bayes_kl(0.1, divergence=10, examples=m) for m in (10_000, 1000, 100)],
        [pac_bayes_kl(0.1, divergence=10, examples=100, delta=p) for p in (0.5, 0.1, 0.01)],
        [pac_bayes_kl(e, divergence=10, examples=100) for e in (0.0, 0.1, 0.5)],
    ):
        assert values == sorted(values)
        assert len(set(values)) == len(values)


@pytest.mark.parametrize(
    "wrong",
    [{"error": 2}, {"divergence": -1}, {"divergence": math.nan}, {"examples": 7}, {"delta": 1}],
)
def test_arguments_out_of_range(wrong: dict[str, float]) -> None:
    (name,) = wrong
    with pytest.raises(D90Error, match=f"{name} is"):
        pac_bayes_kl(**{"error": 0.1, "divergence": 1, "examples": 10, **wrong})  # type: ignore[arg-type]
    with pytest.raises(D90Error, match="bits is"):
        universal_divergence(0.5)


def test_it_fails_at_most_a_delta_share_of_the_time() -> None:
    """Gibbs posteriors over 64 coins, colder than any that pays off, by exact enumeration."""
    generator = np.random.default_rng(1)
    truth = generator.uniform(0.2, 0.5, size=64)
    draws, m, delta = 1000, 50, 0.1
    failures = 0
    for _ in range(draws):
        errors = generator.binomial(m, truth) / m
        weights = np.exp(-4 * m * (errors - errors.min()))
        posterior = weights / weights.sum()
        divergence = float((posterior * np.log(np.maximum(posterior, 1e-300) * 64)).sum())
        bound = pac_bayes_kl(
            float(posterior @ errors), divergence=divergence, examples=m, delta=delta
        )
        failures += posterior @ truth > bound
    assert failures / draws <= delta
