"""kl of two coins, and its inverse against bisection in fifty digits."""

from __future__ import annotations

import math
from typing import Any

import mpmath
import pytest
from hypothesis import given
from hypothesis import strategies as st

from d90.bounds import binary_kl, inverse_binary_kl
from d90.errors import D90Error

SHARES = st.floats(0, 1)


def exact_kl(q: float, p: float) -> Any:
    """In the precision of `mpmath.mp`."""
    wide, p = mpmath.mpf(q), mpmath.mpf(p)
    if p == 1 and q < 1:
        return mpmath.inf
    left = wide * mpmath.log(wide / p) if q > 0 else mpmath.mpf(0)
    right = (1 - wide) * mpmath.log((1 - wide) / (1 - p)) if q < 1 else mpmath.mpf(0)
    return left + right


def exact_inverse(q: float, nats: float) -> Any:
    """Bisection in the precision of `mpmath.mp`."""
    low, high = mpmath.mpf(q), mpmath.mpf(1)
    for _ in range(170):
        middle = (low + high) / 2
        low, high = (middle, high) if exact_kl(q, middle) <= nats else (low, middle)
    return low


def test_by_hand() -> None:
    assert binary_kl(0.5, 0.25) == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3))
    assert binary_kl(0, 0.3) == pytest.approx(-math.log(0.7))
    assert binary_kl(1, 0.3) == pytest.approx(-math.log(0.3))
    assert binary_kl(0.3, 0.3) == binary_kl(0, 0) == binary_kl(1, 1) == 0
    assert binary_kl(0.1, 0) == binary_kl(0.9, 1) == math.inf


@pytest.mark.parametrize("q", [0.0, 1e-9, 0.01, 0.2, 0.5, 0.9, 1 - 1e-9])
@pytest.mark.parametrize("nats", [1e-12, 1e-6, 0.001, 0.1, 2.0, 30.0])
def test_the_inverse_in_high_precision(q: float, nats: float) -> None:
    with mpmath.workdps(50):
        wanted = exact_inverse(q, nats)
        found = inverse_binary_kl(q, nats)
        # A rounding of kl moves p most where kl is flat, at p = q: by sqrt(2 q (1 - q) eps).
        slack = 4 * math.sqrt(max(q * (1 - q), 1e-16) * 2.2e-16) + 1e-15
        assert abs(found - wanted) <= slack
        assert found >= wanted - slack


@given(q=SHARES, nats=st.floats(0, 50))
def test_the_inverse_inverts(q: float, nats: float) -> None:
    p = inverse_binary_kl(q, nats)
    assert q <= p <= 1
    below = math.nextafter(p, 0)
    assert below < q or binary_kl(q, below) <= nats
    if p < 1:
        assert binary_kl(q, p) >= nats * (1 - 1e-12) - 1e-15


@given(q=SHARES, p=SHARES)
def test_pinsker(q: float, p: float) -> None:
    assert binary_kl(q, p) >= 2 * (q - p) ** 2 - 1e-15


def test_limits() -> None:
    assert inverse_binary_kl(0.3, 0) == pytest.approx(0.3)
    assert inverse_binary_kl(0.3, math.inf) == 1
    assert inverse_binary_kl(1, 0.5) == 1


@pytest.mark.parametrize(("q", "nats"), [(-0.1, 1), (1.1, 1), (0.5, -1), (0.5, math.nan)])
def test_arguments_out_of_range(q: float, nats: float) -> None:
    with pytest.raises(D90Error, match="expected"):
        inverse_binary_kl(q, nats)
