"""The bound for finitely many hypotheses, by their description length.

`docs/generalization.md` derives it and says what a d90 study pays for.
"""

from __future__ import annotations

import math

from d90.errors import D90Error


def finite_hypotheses(error: float, *, bits: float, examples: int, delta: float = 0.05) -> float:
    """A bound on the expected error of a classifier that `bits` bits describe.

        L(f) <= Lhat(f) + sqrt((bits ln 2 + ln(1 / delta)) / (2 m))

    with probability 1 - delta over m i.i.d. examples, for every f of a class at once: Hoeffding's
    inequality for each f, with failure probability delta 2^(-bits(f)), and a union bound
    (Kraft's inequality makes these sum to at most delta). Theorem 1 of Aghajanyan et al. 2021 is
    the case bits = d log2(r): d numbers of r levels.

    Assumes: the examples are independent draws from the distribution that L is over; the code (and
    with it P, theta_0 and d, or their share of `bits`) is fixed before they are seen.

    Args:
        error: Lhat, the share of the m examples that f gets wrong, in [0, 1].
        bits: length of f in a prefix-free code.
        examples: m.
        delta: how often the bound may fail, in (0, 1).

    Returns:
        A number that may exceed 1: then it says nothing.

    Raises:
        D90Error: for an argument out of its range.

    >>> round(finite_hypotheses(0.1, bits=0, examples=1000, delta=0.05), 6)
    0.138702
    """
    if not 0 <= error <= 1:
        raise D90Error(f"error is {error}: expected a share from 0 to 1.")
    if not 0 <= bits < math.inf:
        raise D90Error(f"bits is {bits}: expected a number of at least 0.")
    if examples < 1:
        raise D90Error(f"examples is {examples}: expected at least 1.")
    if not 0 < delta < 1:
        raise D90Error(f"delta is {delta}: expected a probability between 0 and 1.")
    nats = bits * math.log(2) + math.log(1 / delta)
    return error + math.sqrt(nats / (2 * examples))
