"""philox-v1: every random number of d90 as a function of (seed, stream, block, index) alone.

A task file is a seed and d numbers, so the same seed must mean the same weights for ever: on any
machine, device, library version and thread count. Nothing here has a state, a sequence or a
rejection; entry `i` can be computed alone, in a register. The scheme is

* words: Philox4x32-10 (Salmon et al., *Parallel random numbers: as easy as 1, 2, 3*, SC 2011),
  keyed by the 64-bit seed. Entry `i` is word `(i >> 4) & 3` of the counter
  `(i >> 6) * 16 + (i & 15)`, so that 16 lanes of a vector unit write 64 entries in order;
* signs: bit 0 of the word;
* normals: bit 1 is the sign, the upper 23 bits are the tail probability, and a piecewise linear
  inverse distribution in whole numbers gives the size: no rounding, so no two machines differ;
* permutations: eight rounds of xor, odd multiplication and xor-shift on log2(n) bits, a bijection
  whatever the keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from functools import cache

import torch
from torch import Tensor

from d90.normal_table import INTERCEPTS, SLOPES

SCHEME = "philox-v1"

_WORD = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10

PERMUTATION_ROUNDS = 8
"""Rounds of the keyed bijection; each takes one word of key."""


class Stream(IntEnum):
    """What a random number is for. Streams never share a word."""

    HEAD = 1
    DATA = 2
    FASTFOOD = 3
    PERMUTATION = 4
    ONEHOT = 5
    SPARSE = 6
    DENSE = 7


def philox4x32(
    counter: Sequence[Tensor], key: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Philox4x32-10 of Random123, elementwise.

    Args:
        counter: four int64 tensors of one shape, values in [0, 2^32).
        key: two 32-bit words.

    Returns:
        Four int64 tensors of that shape, values in [0, 2^32).
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        # The signed 64-bit product wraps, but its bits are those of the unsigned one.
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            ((p1 >> 32) & _WORD) ^ c1 ^ k0,
            p1 & _WORD,
            ((p0 >> 32) & _WORD) ^ c3 ^ k1,
            p0 & _WORD,
        )
        k0, k1 = (k0 + _WEYL[0]) & _WORD, (k1 + _WEYL[1]) & _WORD
    return c0, c1, c2, c3


def words(
    seed: int,
    stream: Stream,
    start: int,
    stop: int,
    *,
    block: int | Tensor = 0,
    device: torch.device | str | None = None,
) -> Tensor:
    """Entries `start..stop` of a stream: 32-bit words.

    Args:
        seed: 0 <= seed < 2^64.
        stream: what the words are for.
        start, stop: range of entries, any slice of the same endless sequence.
        block: 0 <= block < 2^48, an independent sequence each; or an int64 tensor of blocks.

    Returns:
        int64 tensor of shape (stop - start,), values in [0, 2^32); with a tensor of blocks, of
        shape (len(block), stop - start).
    """
    first, last = start >> 6, (stop + 63) >> 6
    index = torch.arange(first * 16, last * 16, dtype=torch.int64, device=device)
    blocks = torch.as_tensor(block, dtype=torch.int64, device=device).reshape(-1, 1)
    counter = (
        index & _WORD,
        index >> 32,
        blocks & _WORD,
        int(stream) | (blocks >> 32) << 16,
    )
    lanes = philox4x32(torch.broadcast_tensors(*counter), (seed & _WORD, (seed >> 32) & _WORD))
    rows = torch.stack([lane.view(len(blocks), -1, 16) for lane in lanes], dim=2)
    rows = rows.view(len(blocks), -1)[:, start - first * 64 : stop - first * 64]
    return rows if isinstance(block, Tensor) else rows[0]


def to_signs(word: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """+1 or -1 from bit 0 of each word."""
    return (1 - 2 * (word & 1)).to(dtype)


@cache
def _normal_table(device: torch.device) -> tuple[Tensor, Tensor]:
    return (
        torch.tensor(INTERCEPTS, dtype=torch.int64, device=device),
        torch.tensor(SLOPES, dtype=torch.int64, device=device),
    )


def to_normals(word: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Standard normal numbers from bits 1 and 9..31 of each word, by inverse distribution.

    The odd 24-bit number `u` stands for the tail probability u / 2^24. Its leading bit and the
    next three choose one of 192 lines, its next ten bits the place on it; each line keeps the mean
    and the variance of its piece of the normal. Values are whole multiples of 2^-21 below 2^3, so
    float32 holds them exactly.
    """
    u = ((word >> 8) | 1).to(torch.float32)
    bits = u.view(torch.int32).to(torch.int64)
    line = (bits >> 20) - (127 << 3)
    place = (bits >> 10) & 1023
    intercepts, slopes = _normal_table(word.device)
    size = intercepts[line] + slopes[line] * place
    return ((1 - (word & 2)) * size).to(dtype) * 2.0**-21


def to_integers(word: Tensor, bound: int) -> Tensor:
    """Whole numbers in [0, bound), bound <= 2^31, from bits 1..31: floor(bound * bits / 2^31)."""
    return ((word >> 1) * bound) >> 31


def normals(
    seed: int,
    stream: Stream,
    start: int,
    stop: int,
    *,
    block: int = 0,
    device: torch.device | str | None = None,
) -> Tensor:
    """Standard normal entries `start..stop` of a stream, float32."""
    return to_normals(words(seed, stream, start, stop, block=block, device=device))


def permutations(
    seed: int,
    first: int,
    last: int,
    bits: int,
    *,
    device: torch.device | str | None = None,
) -> Tensor:
    """The permutations of 0..2^bits - 1 that belong to blocks `first..last`.

    Round r maps x to y ^ (y >> s_r) with y = (x ^ (key >> 16)) (key | 1) mod 2^bits, where s_r
    alternates between ceil(bits / 2) and floor(bits / 2) + 1: each step is a bijection, and the
    two shifts keep a difference in the top bit alone from coming back to it. Round r of block k
    takes entry 8k + r of its stream as its key. Where pairs of places are followed over many
    blocks, their images are uniform within sampling noise for 16 places and more.

    Returns:
        int64 tensor of shape (last - first, 2^bits).
    """
    start, stop = first * PERMUTATION_ROUNDS, last * PERMUTATION_ROUNDS
    keys = words(seed, Stream.PERMUTATION, start, stop, device=device)
    keys = keys.view(-1, PERMUTATION_ROUNDS, 1)
    mask, shifts = 2**bits - 1, ((bits + 1) // 2, bits // 2 + 1)
    x = torch.arange(2**bits, dtype=torch.int64, device=device)[None]
    for r in range(PERMUTATION_ROUNDS):
        x = ((x ^ (keys[:, r] >> 16)) * (keys[:, r] | 1)) & mask
        x = x ^ (x >> shifts[r % 2])
    return x


def order(seed: int, count: int, *, block: int = 0) -> Tensor:
    """A shuffle of `count` things, the same on every machine: they are sorted by random words.

    Args:
        seed: seed of the data order.
        count: how many things, at most 2^31.
        block: which shuffle, such as the epoch.

    Returns:
        int64 tensor of shape (count,), a permutation of 0..count - 1.
    """
    index = torch.arange(count, dtype=torch.int64)
    # The index in the low bits breaks ties, so the sort has one answer.
    return torch.argsort((words(seed, Stream.DATA, 0, count, block=block) << 31) | index)
