"""Bits needed to name one classifier among all that an adapter can encode.

Every choice that depends on the training data counts, in a prefix-free code that is fixed in
advance: integers in Elias' gamma code, names by their index in a list.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from d90.errors import D90Error

LEARNING_RATES = 256
EPOCHS = 256
"""Numbers of learning rates and epochs that count as choices. Decoding the parameters does not need
them, and a uniform bound holds however a classifier was selected: counting them is conservative."""


@dataclass(frozen=True)
class CodeLength:
    """A choice and its code length in bits."""

    choice: str
    bits: float


def gamma_bits(number: int) -> int:
    """The length of an integer in Elias' gamma code: 2 floor(log2 n) + 1 (Elias 1975).

    Raises:
        D90Error: below 1.

    >>> [gamma_bits(n) for n in (1, 2, 3, 4, 200)]
    [1, 3, 3, 5, 15]
    """
    if number < 1:
        raise D90Error(f"number is {number}: expected at least 1.")
    return 2 * (number.bit_length() - 1) + 1


def run_code_lengths(*, d: int, seed: int, lists: Mapping[str, int]) -> tuple[CodeLength, ...]:
    """The code lengths of which run it was, of all runs that there might have been.

    A list of the runs that a study made would not do: which they are depends on the data. This code
    has a word for every d, seed and learning rate.

    Args:
        d: number of parameters.
        seed: of P.
        lists: for each other choice from a list, the number of its entries.

    >>> sum(p.bits for p in run_code_lengths(d=200, seed=0, lists={}))
    32.0
    """
    return (
        CodeLength("d", gamma_bits(d)),
        CodeLength("seed of the projection", gamma_bits(seed + 1)),
        *(CodeLength(choice, math.log2(length)) for choice, length in lists.items()),
        CodeLength("learning rate", math.log2(LEARNING_RATES)),
        CodeLength("stopping epoch", math.log2(EPOCHS)),
    )


def code_lengths(
    *, data_bytes: int, d: int, seed: int, head_seed: int, lists: Mapping[str, int]
) -> tuple[CodeLength, ...]:
    """The code lengths of the parts of an adapter.

    Args:
        data_bytes: size of the encoded parameters, including codebook and spread.
        d: number of parameters.
        seed, head_seed: of P, and of the head in theta_0.
        lists: for each choice from a list, such as the projection, the number of its entries.

    >>> sum(p.bits for p in code_lengths(data_bytes=100, d=200, seed=0, head_seed=0, lists={}))
    846.0
    """
    return (
        CodeLength("the numbers as coded, with their codebook", 8 * data_bytes),
        CodeLength("how many bytes that is", gamma_bits(data_bytes + 1)),
        CodeLength("seed of the head", gamma_bits(head_seed + 1)),
        *run_code_lengths(d=d, seed=seed, lists=lists),
    )
