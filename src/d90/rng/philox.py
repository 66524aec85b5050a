"""philox-v1: every random number of d90 as a function of (seed, stream, block, index) alone.

An adapter is a seed and d parameters, so the same seed must mean the same weights forever: on any
machine, device, library version and thread count. There is no state, no sequence and no rejection
sampling; entry `i` can be computed alone, in registers. The scheme is

* words: Philox4x32-10 (Salmon et al., *Parallel random numbers: as easy as 1, 2, 3*, SC 2011),
  keyed by the 64-bit seed. Entry `i` is word `(i >> 4) & 3` of the counter
  `(i >> 6) * 16 + (i & 15)`, so that 16 lanes of a vector unit write 64 entries in order;
* normals: two per word. The highest of 16 bits is the sign, the others are the tail probability;
  a piecewise linear inverse distribution in integers gives the absolute value, without rounding,
  so all machines agree;
* rows: sixteen neighboring entries share two words, which give a sign for each, an order of the
  sixteen lanes, and 31 further bits;
* permutations: of up to 128 places, rounds of xor, odd multiplication and xor-shift on log2(n)
  bits; of more, rows in such an order, lanes in the row's order, and transposed squares, which a
  vector unit computes without gathering single elements.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from functools import cache
from typing import TypeVar

import torch
from torch import Tensor

from d90.rng.normal_table import FALLS, INTERCEPTS, TAIL_FALLS, TAIL_INTERCEPTS

SCHEME = "philox-v1"

_WORD = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10

LANES = 16
"""Entries of a row."""

SQUARE = LANES * LANES
"""Minimum number of places of a permutation by rows."""

ORDERS = LANES * (LANES - 1)
"""Number of orders of the lanes."""

_KEYS = 8
"""Key words per permutation."""

_IntegersT = TypeVar("_IntegersT", int, Tensor)


class Stream(IntEnum):
    """The purpose of a random number. Streams never share a word."""

    HEAD = 1
    DATA = 2
    FASTFOOD = 3
    PERMUTATION = 4
    ONEHOT = 5
    SPARSE = 6
    DENSE = 7
    FASTFOOD_ROWS = 8


def philox4x32(
    counter: Sequence[_IntegersT], key: tuple[int, int]
) -> tuple[_IntegersT, _IntegersT, _IntegersT, _IntegersT]:
    """Philox4x32-10 of Random123, elementwise.

    Args:
        counter: four int64 tensors of one shape, or four ints, values in [0, 2^32).
        key: two 32-bit words.

    Returns:
        Four int64 tensors of that shape, or four ints, values in [0, 2^32).
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
        stream: purpose of the words.
        start, stop: range of entries, any slice of the same infinite sequence.
        block: 0 <= block < 2^48, each an independent sequence; or an int64 tensor of blocks.

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


def word(seed: int, stream: Stream, index: int, *, block: int = 0) -> int:
    """One entry of a stream, computed by the host without a tensor."""
    place = (index >> 6) * LANES + index % LANES
    counter = (place & _WORD, place >> 32, block & _WORD, int(stream) | (block >> 32) << 16)
    return philox4x32(counter, (seed & _WORD, seed >> 32))[(index >> 4) & 3]


def to_signs(word: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """+1 or -1 from bit 0 of each word."""
    return (1 - 2 * (word & 1)).to(dtype)


@cache
def _normal_table(device: torch.device) -> Tensor:
    """The absolute values at all 2^15 levels of tail probability, in units of 2^-12."""
    level = torch.arange(2**15)
    center = _on_lines(level, INTERCEPTS, FALLS, 9)
    tail = _on_lines(level & 2**11 - 1, TAIL_INTERCEPTS, TAIL_FALLS, 5)
    return torch.where(level < 2**11, tail, center).to(device)


def _on_lines(level: Tensor, intercepts: Sequence[int], falls: Sequence[int], bits: int) -> Tensor:
    line, step = level >> bits, level & 2**bits - 1
    return torch.tensor(intercepts)[line] - (torch.tensor(falls)[line] * step >> bits)


def to_normals(word: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Two standard normal values from each word, by inverse distribution: low half, high half.

    Bit 15 of a half is the sign; the others are one of 2^15 levels of the tail probability. Its
    upper six bits select a line and the rest the position on it; below 2^11 there are finer lines.
    Each line preserves the mean and the variance of its piece of the normal. Values are integer
    multiples of 2^-12 below 2^2, so float32 represents them exactly.

    Args:
        word: shape (..., n).

    Returns:
        Tensor of shape (..., 2 n).
    """
    half = torch.stack((word & 0xFFFF, word >> 16), dim=-1).flatten(-2)
    size = _normal_table(word.device)[half & 0x7FFF]
    return torch.where(half < 0x8000, size, -size).to(dtype) * 2.0**-12


def to_integers(word: Tensor, bound: int) -> Tensor:
    """Integers in [0, bound), bound <= 2^31, from bits 1..31: floor(bound * bits / 2^31)."""
    return ((word >> 1) * bound) >> 31


def normals(
    seed: int,
    stream: Stream,
    start: int,
    stop: int,
    *,
    block: int | Tensor = 0,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Standard normal entries `start..stop` of a stream; `block` as in `words`."""
    first, last = start // 2, -(-stop // 2)
    values = to_normals(words(seed, stream, first, last, block=block, device=device), dtype)
    return values[..., start - 2 * first : stop - 2 * first]


def rows(
    seed: int,
    stream: Stream,
    first: int,
    last: int,
    *,
    device: torch.device | str | None = None,
) -> tuple[Tensor, Tensor]:
    """The two words of each of the rows `first..last`, each of shape (last - first,).

    Sixteen rows take 32 consecutive words: the first words, then the second words.
    """
    square, end = first // LANES, -(-last // LANES)
    pairs = words(seed, stream, square * 2 * LANES, end * 2 * LANES, device=device)
    pairs = pairs.view(-1, 2, LANES).transpose(0, 1).reshape(2, -1)
    pairs = pairs[:, first - square * LANES : last - square * LANES]
    return pairs[0], pairs[1]


def row_signs(word: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Signs of the sixteen entries of each row, from bits 0..15 of a word: shape (rows, 16)."""
    lanes = torch.arange(LANES, device=word.device)
    return (1 - 2 * (word[:, None] >> lanes & 1)).to(dtype)


def row_permutations(word: Tensor) -> Tensor:
    """An order of the sixteen lanes for each row, from bits 16..31 of a word: shape (rows, 16)."""
    return _orders(word.device)[(word >> 16) * ORDERS >> 16]


def lane_permutations() -> list[list[int]]:
    """The 240 orders `lane -> 1 / (a lane + c)` over GF(16), a from 1 on.

    Any two lanes go to any two places in equally many of them. Without the inverse (that of 0 is 0)
    all would be affine, and affine permutations pass through the Walsh-Hadamard transform.
    """

    def times(x: int, y: int) -> int:
        product = 0
        for bit in range(4):
            product ^= x << bit if y >> bit & 1 else 0
        for bit in (6, 5, 4):  # modulo x^4 + x + 1
            product ^= 0b10011 << bit - 4 if product >> bit & 1 else 0
        return product

    inverse = [next((y for y in range(LANES) if times(x, y) == 1), 0) for x in range(LANES)]
    return [
        [inverse[times(a, lane) ^ c] for lane in range(LANES)]
        for a in range(1, LANES)
        for c in range(LANES)
    ]


@cache
def _orders(device: torch.device) -> Tensor:
    return torch.tensor(lane_permutations(), device=device)


def permutations(
    seed: int,
    first: int,
    last: int,
    bits: int,
    *,
    device: torch.device | str | None = None,
) -> Tensor:
    """The permutations of 0..2^bits - 1 that belong to blocks `first..last`.

    Below 256 places, the keyed bijection of `_scramble` with eight rounds. From 256 places on, the
    places form rows of sixteen lanes. Twice, every square of sixteen rows is transposed, the rows
    are reordered by a keyed bijection (four rounds), and the lanes of each row by an order of its
    own (`row_permutations` of its two words); at the end, squares are transposed again.

    Block k takes entries 8k.. of its stream as keys. Every image of a place is uniform. Pairs are
    uniform within sampling noise for 16..128 places; from 256 places on, two images share a row or
    a lane with probability 0 to 1/16 where a uniform permutation has about 1/17.

    Returns:
        int64 tensor of shape (last - first, 2^bits): the source index of each place.
    """
    keys = words(seed, Stream.PERMUTATION, first * _KEYS, last * _KEYS, device=device)
    keys = keys.view(-1, _KEYS)
    n = 2**bits
    if n < SQUARE:
        return _scramble(keys, bits)
    height = n // LANES
    drawn = rows(seed, Stream.FASTFOOD_ROWS, first * height, last * height, device=device)
    places = transpose_squares(torch.arange(n, device=device).expand(len(keys), n))
    for stage, key in enumerate(keys.split(_KEYS // 2, dim=1)):
        row = _scramble(key, bits - 4)[:, :, None]
        lane = row_permutations(drawn[stage]).view(-1, height, LANES)
        places = transpose_squares(places.gather(1, (row * LANES + lane).view(-1, n)))
    return places


def _scramble(keys: Tensor, bits: int) -> Tensor:
    """A bijection of 0..2^bits - 1 for each row of keys, one round per key: shape (rows, 2^bits).

    Round r maps x to y ^ (y >> s_r) with y = (x ^ (key >> 16)) (key | 1) mod 2^bits, where s_r
    alternates between ceil(bits / 2) and floor(bits / 2) + 1: each step is a bijection, and the
    two shifts prevent a difference in the top bit alone from returning to it.
    """
    mask, shifts = 2**bits - 1, ((bits + 1) // 2, bits // 2 + 1)
    x = torch.arange(2**bits, dtype=torch.int64, device=keys.device)[None]
    for r, key in enumerate(keys.t()[:, :, None]):
        x = ((x ^ (key >> 16)) * (key | 1)) & mask
        x = x ^ (x >> shifts[r % 2])
    return x


def transpose_squares(x: Tensor) -> Tensor:
    """Transpose each 256 consecutive entries as a 16 x 16 matrix; shape (rows, n), n >= 256."""
    return x.reshape(len(x), -1, LANES, LANES).transpose(2, 3).reshape(x.shape)


def shuffle(seed: int, count: int, *, block: int = 0) -> Tensor:
    """A shuffle of `count` indices, the same on every machine: a sort by random words.

    Args:
        seed: seed of the data order.
        count: at most 2^31.
        block: index of the shuffle, such as the epoch.

    Returns:
        int64 tensor of shape (count,), a permutation of 0..count - 1.
    """
    index = torch.arange(count, dtype=torch.int64)
    # The index in the low bits breaks ties, so the order is unique.
    return torch.argsort((words(seed, Stream.DATA, 0, count, block=block) << 31) | index)
