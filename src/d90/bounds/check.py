"""Checks of arguments that all bounds share."""

from __future__ import annotations

import math

from d90.errors import D90Error


def check_fraction(name: str, value: float) -> None:
    """Check a fraction.

    Raises:
        D90Error: it is not from 0 to 1.
    """
    if not 0 <= value <= 1:
        raise D90Error(f"{name} is {value}: expected a fraction from 0 to 1.")


def check_sample(error: float, examples: int, delta: float) -> None:
    """Check the sample that a bound is computed from.

    Args:
        error: fraction of the examples that are wrong.
        examples: number of examples.
        delta: probability that the bound fails.

    Raises:
        D90Error: an argument is out of range.
    """
    check_fraction("error", error)
    if examples < 1:
        raise D90Error(f"examples is {examples}: expected at least 1.")
    check_delta(delta)


def check_delta(delta: float) -> None:
    """Check the probability that a bound fails.

    Raises:
        D90Error: it is not between 0 and 1.
    """
    if not 0 < delta < 1:
        raise D90Error(f"delta is {delta}: expected a probability between 0 and 1.")


def check_length(bits: float) -> None:
    """Check a description length.

    Raises:
        D90Error: it is negative or infinite.
    """
    if not 0 <= bits < math.inf:
        raise D90Error(f"bits is {bits}: expected a number of at least 0.")
