"""What a file costs in bits: a code that can be decoded, and sums by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from d90.bounds import occam_hoeffding, occam_kl
from d90.bounds.description_length import code_lengths, gamma_bits, run_code_lengths
from d90.errors import D90Error
from d90.search.protocols import AdaptiveProtocol


def test_the_code_of_whole_numbers_is_prefix_free() -> None:
    """Kraft: the shares 2^-bits of all numbers add up to at most 1 (here to 1 in the limit)."""
    total = math.fsum(2.0 ** -gamma_bits(n) for n in range(1, 2**16))
    assert total == 1 - 2.0**-16
    assert [gamma_bits(2**k) for k in range(5)] == [1, 3, 5, 7, 9]
    with pytest.raises(D90Error, match="at least 1"):
        gamma_bits(0)


def test_payments_by_hand() -> None:
    found = code_lengths(
        data_bytes=63, d=200, seed=3, head_seed=0, lists={"projection": 4, "groups": 3}
    )
    assert {payment.choice: payment.bits for payment in found} == {
        "the numbers as coded, with their codebook": 504,
        "how many bytes that is": 13,
        "d": 15,
        "seed of the projection": 5,
        "seed of the head": 1,
        "projection": 2,
        "groups": math.log2(3),
        "learning rate": 8,
        "stopping epoch": 8,
    }


def every_run() -> np.ndarray:
    """Bits of each run that an adaptive study might make: every rung, rate and seed."""
    protocol = AdaptiveProtocol(min_dim=10, max_dim=10_000, budget=24)
    bits = [
        math.fsum(part.bits for part in run_code_lengths(d=d, seed=seed, lists={"criterion": 3}))
        for d in protocol.dimensions()
        for _ in protocol.learning_rates
        for seed in range(protocol.budget)
    ]
    return np.array(bits)


def test_the_code_of_runs_has_room_for_all_of_them() -> None:
    """Kraft, for the ladder of a study, and for any d, seed, rate, epoch and criterion."""
    assert np.sum(2.0 ** -every_run()) < 1
    per_choice = 256 * 256 * 3
    total = math.fsum(
        per_choice * 2.0 ** -math.fsum(part.bits for part in found)
        for d in range(1, 128)
        for seed in range(127)
        if (found := run_code_lengths(d=d, seed=seed, lists={"criterion": 3}))
    )
    assert total == pytest.approx((1 - 1 / 128) ** 2)


@pytest.mark.parametrize("bound", [occam_hoeffding, occam_kl])
def test_the_promise_holds_for_the_luckiest_run_on_random_labels(bound: Any) -> None:
    """Every classifier's error is 1/2; an adversary who sees the labels picks what looks best.

    That run may be any of the ladder, so paying for the list of 24 runs that were made does not do.
    """
    generator = np.random.default_rng(0)
    examples, delta, repetitions = 1000, 0.2, 200
    bits = every_run()
    broken = {"all": 0, "the 24 made": 0, "none": 0}
    for _ in range(repetitions):
        errors = generator.binomial(examples, 0.5, len(bits)) / examples
        lowest = min(
            bound(error, bits=length, examples=examples, delta=delta)
            for length in np.unique(bits)
            for error in [errors[bits == length].min()]
        )
        broken["all"] += lowest < 0.5
        for name, length in (("the 24 made", math.log2(24)), ("none", 0)):
            broken[name] += bound(errors.min(), bits=length, examples=examples, delta=delta) < 0.5
    assert broken["all"] <= delta * repetitions
    assert broken["the 24 made"] > 2 * delta * repetitions
    assert broken["none"] > 0.95 * repetitions
