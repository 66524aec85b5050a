"""Entropy coding of integers under an explicit prior, the same bits on every machine.

The prior is a discrete bell curve, computed in integers alone:

    P(k) proportional to a^(k^2) for |k| <= K,    a = spread / 2^16

so that one two-byte number defines it. Its floating-point cousin would depend on the
machine's exponential function. The coder is constriction's asymmetric numeral system (Bamler 2022).
"""

from __future__ import annotations

import math
from typing import Any

import constriction
import numpy as np
from numpy.typing import NDArray

from d90.errors import D90Error

_stream: Any = vars(constriction)["stream"]  # Its submodules have no type stubs.
AnsCoder = _stream.stack.AnsCoder
Categorical = _stream.model.Categorical

ONE = 1 << 16
"""Spreads are integer multiples of 1 / ONE."""

_FIXED = 48
"""Binary digits behind the point while weights are multiplied."""

LARGEST = 127
"""Largest K: symbols from -127 to 127."""

COMMONEST = 255
"""The commonest symbol is at most this many times as likely as all others together, so that no
symbol is free: 1 / 177 of a bit at least. A reader then knows how many numbers some bytes can
hold, and a short file cannot ask for much memory."""


def bell(spread: int, largest: int) -> NDArray[np.float64]:
    """P(k) for k = -K .. K, each a multiple of 2^-23, shape (2K + 1,).

    Args:
        spread: 65,536 a, from 1 to 65,535.
        largest: K, from 1 to 127.

    Raises:
        D90Error: for an argument out of its range.

    >>> bell(32768, 2).round(3).tolist()  # 1/16, 1/2, 1, 1/2, 1/16, normalized
    [0.029, 0.235, 0.471, 0.235, 0.029]
    """
    if not 1 <= spread < ONE:
        raise D90Error(f"spread is {spread}: expected from 1 to {ONE - 1}.")
    if not 1 <= largest <= LARGEST:
        raise D90Error(f"largest symbol is {largest}: expected from 1 to {LARGEST}.")
    ratio = spread << (_FIXED - 16)
    square = (ratio * ratio) >> _FIXED
    weights, factor = [1 << _FIXED], ratio
    for _ in range(largest):  # a^((k+1)^2) = a^(k^2) * a^(2k+1)
        weights.append((weights[-1] * factor) >> _FIXED)
        factor = (factor * square) >> _FIXED
    both = weights[:0:-1] + weights
    total = sum(both)
    # At least one step each: every symbol can be written, however unlikely.
    steps = [max((weight << 23) // total, 1) for weight in both]
    others = sum(steps) - steps[largest]
    steps[largest] = min(steps[largest], COMMONEST * others)
    return np.array(steps, dtype=np.float64) / (1 << 23)


def best_spread(symbols: NDArray[np.int32], largest: int) -> int:
    """Nearly the spread with the shortest encoding: a at the symbols' own variance.

    A bell of variance v has a = exp(-1 / (2 v)); a few neighbors are tried around it.
    """
    variance = max(float(np.mean(np.square(symbols.astype(np.float64)))), 1e-3)
    middle = math.exp(-1 / (2 * variance))
    candidates = {
        min(max(round(ONE * middle**power), 1), ONE - 1)
        for power in (0.25, 0.4, 0.6, 0.8, 0.9, 1.0, 1.1, 1.25, 1.6, 2.5)
    }
    return min(sorted(candidates), key=lambda spread: bits(symbols, bell(spread, largest), largest))


def bits(symbols: NDArray[np.int32], probabilities: NDArray[np.float64], shift: int) -> float:
    """The information in the symbols, in bits."""
    normalized = probabilities / probabilities.sum()
    return float(-np.log2(normalized[symbols + shift]).sum())


def encode(symbols: NDArray[np.int32], probabilities: NDArray[np.float64]) -> bytes:
    """Symbols 0..r-1 as bytes, little-endian words of 32 bits."""
    coder = AnsCoder()
    coder.encode_reverse(symbols.astype(np.int32), Categorical(probabilities, perfect=False))
    return coder.get_compressed().astype("<u4").tobytes()


MIN_SYMBOLS = 1 << 16
"""Symbols that any bytes may decode to: a run of symbol 0 at the end costs the coder nothing."""


def max_symbols(size: int, probabilities: NDArray[np.float64]) -> int:
    """Most symbols that this many bytes decode to: all the commonest one, or MIN_SYMBOLS.

    >>> max_symbols(40_000, np.array([0.5, 0.5]))  # and a word that the coder may end with
    320032
    """
    least = -math.log2(min(float(probabilities.max() / probabilities.sum()), 1 - 2**-20))
    return max(math.floor((8 * size + 32) / least), MIN_SYMBOLS)


def decode(data: bytes, probabilities: NDArray[np.float64], count: int) -> NDArray[np.int32]:
    """`count` symbols from exactly these bytes.

    Raises:
        D90Error: when the bytes are not what `encode` writes for that many symbols.
    """
    if len(data) % 4:
        raise D90Error("the coded numbers are not whole words.")
    if count > max_symbols(len(data), probabilities):
        raise D90Error(f"{len(data)} bytes of coded numbers cannot hold {count:,} of them.")
    try:
        coder = AnsCoder(np.frombuffer(data, dtype="<u4").astype(np.uint32))
    except ValueError as error:
        raise D90Error(f"the coded numbers are damaged: {error}") from error
    symbols = coder.decode(Categorical(probabilities, perfect=False), count)
    if not coder.is_empty():
        raise D90Error("the coded numbers are damaged: something is left after the last one.")
    return np.asarray(symbols, dtype=np.int32)
