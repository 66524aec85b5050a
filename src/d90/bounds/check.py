"""Arguments that every bound has in common."""

from __future__ import annotations

import math

from d90.errors import D90Error


def check_fraction(name: str, value: float) -> None:
    """A share, from 0 to 1.

    Raises:
        D90Error: naming it.
    """
    if not 0 <= value <= 1:
        raise D90Error(f"{name} is {value}: expected a share from 0 to 1.")


def check_sample(error: float, examples: int, delta: float) -> None:
    """The sample that a bound is computed from.

    Args:
        error: share of the examples that are wrong.
        examples: how many there are.
        delta: how often the bound may fail.

    Raises:
        D90Error: naming what is out of its range.
    """
    check_fraction("error", error)
    if examples < 1:
        raise D90Error(f"examples is {examples}: expected at least 1.")
    check_delta(delta)


def check_delta(delta: float) -> None:
    """How often a bound may fail.

    Raises:
        D90Error: when it is no probability between 0 and 1.
    """
    if not 0 < delta < 1:
        raise D90Error(f"delta is {delta}: expected a probability between 0 and 1.")


def check_length(bits: float) -> None:
    """A description length.

    Raises:
        D90Error: when it is negative or infinite.
    """
    if not 0 <= bits < math.inf:
        raise D90Error(f"bits is {bits}: expected a number of at least 0.")
