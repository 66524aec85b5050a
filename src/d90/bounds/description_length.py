"""Bits needed to name one classifier among all that an adapter can encode.

Everything that is chosen with sight of the training data is paid for, in a prefix-free code that is
fixed before: whole numbers by Elias' gamma code, names by their place in a list.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from d90.errors import D90Error

LEARNING_RATES = 256
EPOCHS = 256
"""How many learning rates and epochs are paid for. Nobody has to know them to decode the file, and
a bound for all classifiers at once holds however one of them was found: paid all the same."""


@dataclass(frozen=True)
class CodeLength:
    """A choice and what it costs, in bits."""

    choice: str
    bits: float


def gamma_bits(number: int) -> int:
    """The length of a whole number in Elias' gamma code: 2 floor(log2 n) + 1 (Elias 1975).

    Raises:
        D90Error: below 1.

    >>> [gamma_bits(n) for n in (1, 2, 3, 4, 200)]
    [1, 3, 3, 5, 15]
    """
    if number < 1:
        raise D90Error(f"number is {number}: expected at least 1.")
    return 2 * (number.bit_length() - 1) + 1


def code_lengths(
    *, data_bytes: int, d: int, seed: int, head_seed: int, lists: Mapping[str, int]
) -> tuple[CodeLength, ...]:
    """Bits of an adapter.

    Args:
        data_bytes: the numbers as they are coded, codebook and spread included.
        d: how many numbers.
        seed, head_seed: of P, and of the head in theta_0.
        lists: for each choice from a list, such as the projection, the length of the list.

    >>> sum(p.bits for p in code_lengths(data_bytes=100, d=200, seed=0, head_seed=0, lists={}))
    846.0
    """
    return (
        CodeLength("the numbers as coded, with their codebook", 8 * data_bytes),
        CodeLength("how many bytes that is", gamma_bits(data_bytes + 1)),
        CodeLength("d", gamma_bits(d)),
        CodeLength("seed of the projection", gamma_bits(seed + 1)),
        CodeLength("seed of the head", gamma_bits(head_seed + 1)),
        *(CodeLength(choice, math.log2(length)) for choice, length in lists.items()),
        CodeLength("learning rate", math.log2(LEARNING_RATES)),
        CodeLength("stopping epoch", math.log2(EPOCHS)),
    )
