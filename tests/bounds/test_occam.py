"""The finite-hypothesis bound: by hand, in its limits, and as a promise."""

from __future__ import annotations

import math

import numpy as np
import pytest

from d90.bounds import occam_hoeffding, occam_kl, theorem_1
from d90.errors import D90Error


def test_by_hand() -> None:
    """Hoeffding's ln(1 / 0.05) / (2 * 1000) for no bits; 100 bits add 100 ln 2."""
    assert occam_hoeffding(0.1, bits=0, examples=1000) == pytest.approx(
        0.1 + math.sqrt(2.995732273553991 / 2000)
    )
    assert occam_hoeffding(0.1, bits=100, examples=1000, delta=0.01) == pytest.approx(
        0.1 + math.sqrt((69.31471805599453 + 4.605170185988091) / 2000)
    )


def test_theorem_1_counts_levels() -> None:
    """d numbers of r levels are r^d hypotheses, each with a share of delta."""
    d, r, m, delta = 20, 16, 5000, 0.05
    union = 0.2 + math.sqrt(math.log(r**d / delta) / (2 * m))
    assert occam_hoeffding(0.2, bits=d * 4, examples=m, delta=delta) == pytest.approx(union)


def test_limits_and_order() -> None:
    assert occam_hoeffding(0.3, bits=1000, examples=10**15) == pytest.approx(0.3, abs=1e-5)
    by_bits = [occam_hoeffding(0.1, bits=b, examples=100) for b in (0, 1, 10, 100)]
    by_examples = [occam_hoeffding(0.1, bits=10, examples=m) for m in (1000, 100, 10)]
    by_delta = [occam_hoeffding(0.1, bits=10, examples=100, delta=p) for p in (0.5, 0.1, 0.01)]
    by_error = [occam_hoeffding(e, bits=10, examples=100) for e in (0.0, 0.1, 0.5)]
    for values in (by_bits, by_examples, by_delta, by_error):
        assert values == sorted(values) and len(set(values)) == len(values)


@pytest.mark.parametrize(
    "wrong",
    [
        {"error": -0.1},
        {"error": 1.1},
        {"bits": -1},
        {"bits": math.inf},
        {"examples": 0},
        {"delta": 0},
        {"delta": 1},
    ],
)
def test_arguments_out_of_range(wrong: dict[str, float]) -> None:
    (name,) = wrong
    with pytest.raises(D90Error, match=f"{name} is"):
        occam_hoeffding(**{"error": 0.1, "bits": 10, "examples": 10, **wrong})  # type: ignore[arg-type]


def test_it_fails_at_most_a_delta_share_of_the_time() -> None:
    """256 random classifiers of 8 bits; the one that fits the sample best is taken each time."""
    generator = np.random.default_rng(0)
    truth = generator.uniform(0.3, 0.5, size=256)
    draws, m, delta = 2000, 60, 0.2
    failures = 0
    for _ in range(draws):
        errors = generator.binomial(m, truth) / m
        best = int(errors.argmin())
        failures += truth[best] > occam_hoeffding(errors[best], bits=8, examples=m, delta=delta)
    assert failures / draws <= delta
    # Without paying for the choice it would fail more often than promised.
    unpaid = 0
    for _ in range(draws):
        errors = generator.binomial(m, truth) / m
        best = int(errors.argmin())
        unpaid += truth[best] > occam_hoeffding(errors[best], bits=0, examples=m, delta=delta)
    assert unpaid / draws > delta


def test_theorem_1_by_hand() -> None:
    """200 numbers of 16 levels are 800 bits; 67,349 examples are those of SST-2."""
    nats = 800 * 0.6931471805599453 + 2.995732273553991
    found = theorem_1(0.2, d=200, levels=16, examples=67_349)
    assert found == pytest.approx(0.2 + math.sqrt(nats / 134_698))
    more = theorem_1(0.2, d=200, levels=16, examples=67_349, extra_bits=10)
    assert more == occam_hoeffding(0.2, bits=810, examples=67_349)


def test_chernoff_is_tighter_than_hoeffding() -> None:
    for error in (0.0, 0.01, 0.2, 0.5):
        for bits in (0, 100, 2000):
            loose = occam_hoeffding(error, bits=bits, examples=1000)
            tight = occam_kl(error, bits=bits, examples=1000)
            assert error < tight <= min(loose, 1)
    nats = (100 * 0.6931471805599453 + 2.995732273553991) / 1000
    found = occam_kl(0, bits=100, examples=1000)
    assert found == pytest.approx(1 - math.exp(-nats))


def test_chernoff_keeps_its_promise() -> None:
    generator = np.random.default_rng(2)
    truth = generator.uniform(0.02, 0.2, size=256)
    draws, m, delta = 2000, 60, 0.2
    failures = 0
    for _ in range(draws):
        errors = generator.binomial(m, truth) / m
        best = int(errors.argmin())
        bound = occam_kl(errors[best], bits=8, examples=m, delta=delta)
        failures += truth[best] > bound
    assert failures / draws <= delta
