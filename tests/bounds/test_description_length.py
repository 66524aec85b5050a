"""What a file costs in bits: a code that can be decoded, and sums by hand."""

from __future__ import annotations

import math

import pytest

from d90.bounds.description_length import code_lengths, gamma_bits
from d90.errors import D90Error


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
