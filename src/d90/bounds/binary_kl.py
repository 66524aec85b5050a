"""The KL divergence of two Bernoulli distributions and its inverse, used by the tightest bounds."""

from __future__ import annotations

import math

from d90.bounds.check import check_fraction
from d90.errors import D90Error


def binary_kl(q: float, p: float) -> float:
    """kl(q || p) = q ln(q / p) + (1 - q) ln((1 - q) / (1 - p)), in nats.

    The divergence of Bernoulli(p) from Bernoulli(q), with 0 ln 0 = 0; infinite if p excludes what q
    allows.

    Raises:
        D90Error: for an argument outside [0, 1].

    >>> round(binary_kl(0.5, 0.25), 12), binary_kl(0.0, 0.0), binary_kl(0.5, 1.0)
    (0.143841036226, 0.0, inf)
    """
    check_fraction("q", q)
    check_fraction("p", p)
    if (p == 0 and q > 0) or (p == 1 and q < 1):
        return math.inf
    left = -q * _log_ratio(p, q) if q > 0 else 0.0
    right = -(1 - q) * _log_ratio(1 - p, 1 - q) if q < 1 else 0.0
    return max(left + right, 0.0)


def inverse_binary_kl(q: float, nats: float) -> float:
    """The largest p in [q, 1] with kl(q || p) <= nats: an upper bound on the mean that q estimates.

    By bisection down to neighboring floats, and never below the true value by more than one
    rounding of kl.

    Raises:
        D90Error: for q outside [0, 1] or nats below 0.

    >>> round(inverse_binary_kl(0.0, 0.1), 12)  # 1 - exp(-0.1)
    0.095162581964
    """
    check_fraction("q", q)
    if not nats >= 0:
        raise D90Error(f"nats is {nats}: expected a number of at least 0.")
    if math.isinf(nats):
        return 1.0
    low, high = q, 1.0
    while True:
        middle = (low + high) / 2
        if not low < middle < high:
            return high
        if binary_kl(q, middle) <= nats:
            low = middle
        else:
            high = middle


def _log_ratio(a: float, b: float) -> float:
    """ln(a / b), accurate also for a near b."""
    difference = (a - b) / b
    return math.log1p(difference) if abs(difference) < 0.5 else math.log(a) - math.log(b)
