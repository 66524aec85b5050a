"""philox-v1 in registers, for Triton kernels: the bits of src/d90/rng/philox.py, the specification.

Random numbers come by tiles: TILE neighboring entries from a multiple of TILE on, TILE a power of
two and at least 256. A tile is `TILE / 256` squares of sixteen rows of sixteen lanes. Numbers of
rows are shaped (squares, 16); numbers of entries (squares, 16, 16) or (TILE,).
"""

# Triton's language only looks like Python: the compiler checks its types, in the tests.
# pyright: reportArgumentType=false, reportCallIssue=false, reportInvalidTypeForm=false
# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false
from __future__ import annotations

from functools import cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from d90.rng import philox
from d90.rng.normal_table import FALLS, INTERCEPTS, TAIL_FALLS, TAIL_INTERCEPTS

LANES = tl.constexpr(philox.LANES)
SQUARE = tl.constexpr(philox.SQUARE)
ORDERS = tl.constexpr(philox.ORDERS)
KEYS = tl.constexpr(8)
PERMUTATION = tl.constexpr(int(philox.Stream.PERMUTATION))


@cache
def tables(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """The constants of the scheme on a device, int32.

    Returns:
        The 128 lines of the normal distribution, `intercept << 16 | fall`, tail last; the 240
        orders of the lanes, shape (240, 2): lanes 0 to 7 and 8 to 15, four bits a lane; and the
        inverse of each order.
    """
    intercepts, falls = (*INTERCEPTS, *TAIL_INTERCEPTS), (*FALLS, *TAIL_FALLS)
    lines = [height << 16 | fall for height, fall in zip(intercepts, falls, strict=True)]
    orders = philox.lane_permutations()
    inverses = [[order.index(lane) for lane in range(philox.LANES)] for order in orders]
    return (
        torch.tensor(lines, dtype=torch.int32, device=device),
        torch.tensor([_packed(order) for order in orders], dtype=torch.int32, device=device),
        torch.tensor([_packed(order) for order in inverses], dtype=torch.int32, device=device),
    )


def _packed(order: list[int]) -> list[int]:
    """Four bits a lane, eight lanes in a signed 32-bit number."""
    halves = (
        sum(place << 4 * lane for lane, place in enumerate(half)) for half in (order[:8], order[8:])
    )
    return [half - 2**32 if half >= 2**31 else half for half in halves]


@triton.jit
def philox4x32(seed: tl.tensor, stream: tl.constexpr, counter: tl.tensor):
    """The four words of int64 counters of a stream."""
    low, high = counter.to(tl.uint32), (counter >> 32).to(tl.uint32)
    return tl.philox(seed, low, high, tl.zeros_like(low), tl.full(low.shape, stream, tl.uint32))


@triton.jit
def words(seed: tl.tensor, stream: tl.constexpr, entry: tl.tensor):
    """The word of each entry: a whole Philox for one word, so for few numbers only."""
    w0, w1, w2, w3 = philox4x32(seed, stream, (entry >> 6) * LANES + entry % LANES)
    word = (entry >> 4) & 3
    return tl.where(word < 2, tl.where(word == 0, w0, w1), tl.where(word == 2, w2, w3))


@triton.jit
def row_words(seed: tl.tensor, stream: tl.constexpr, row: tl.tensor):
    """`philox.rows`: the two words of each row, from one Philox."""
    square = row >> 4
    w0, w1, w2, w3 = philox4x32(seed, stream, (square >> 1) * LANES + row % LANES)
    odd = (square & 1) == 1
    return tl.where(odd, w2, w0), tl.where(odd, w3, w1)


@triton.jit
def flipped(x: tl.tensor, word: tl.tensor):
    """Entries of rows, (squares, 16, 16), with the signs of bits 0..15 of each row's word."""
    negative = (word[:, :, None] >> tl.arange(0, LANES)[None, None, :]) & 1
    return tl.where(negative == 1, -x, x)


@triton.jit
def once(x: tl.tensor):
    """x itself, (rows,), computed once.

    Without it the compiler computes numbers of rows again in the layout of the entries that use
    them, Philox and all, four times over. It does not do so through a gather.
    """
    return tl.gather(x, tl.arange(0, x.shape[0]), 0)


@triton.jit
def order_of(word: tl.tensor, orders: tl.tensor):
    """The packed order of lanes that bits 16..31 of each row's word choose: two int32."""
    line = orders + 2 * ((word >> 16) * ORDERS >> 16)
    return once(tl.load(line)), once(tl.load(line + 1))


@triton.jit
def lane_of(low: tl.tensor, high: tl.tensor, lane: tl.tensor):
    """Where an order sends a lane, int32; its packed halves broadcast with the lane's number."""
    return (tl.where(lane < 8, low, high) >> 4 * (lane & 7)) & (LANES - 1)


@triton.jit
def to_normals(half: tl.tensor, lines: tl.tensor):
    """A normal number from each 16 random bits, in float32."""
    level = half & 0x7FFF
    tail = level < 2048
    line = tl.load(lines + tl.where(tail, 64 + (level >> 5), level >> 9))
    step = tl.where(tail, (level & 31) << 4, level & 511).to(tl.int32)
    size = (line >> 16) - ((line & 0xFFFF) * step >> 9)
    return tl.where(half == level, size, -size).to(tl.float32) * 0.000244140625  # 2^-12


@triton.jit
def normals(
    seed: tl.tensor,
    stream: tl.constexpr,
    start: tl.tensor,
    lines: tl.tensor,
    TRANSPOSED: tl.constexpr,
    TILE: tl.constexpr,
):
    """Entries `start..start + TILE`, (TILE,), square by square transposed where asked."""
    w0, w1, w2, w3 = philox4x32(seed, stream, start // 8 + tl.arange(0, TILE // 8))
    word = tl.join(tl.join(w0, w2), tl.join(w1, w3))
    half = tl.join(word & 0xFFFF, word >> 16)
    # Lane of counter l, word w and half h of a group are its normal 32 w + 2 l + h.
    if TRANSPOSED:
        x = tl.reshape(to_normals(half, lines), (TILE // 256, 2, 2, 8, 4, 2))
        x = tl.permute(x, (0, 3, 5, 1, 4, 2))
    else:
        x = tl.reshape(to_normals(half, lines), (TILE // 128, LANES, 4, 2))
        x = tl.permute(x, (0, 2, 1, 3))
    return tl.reshape(x, (TILE,))


@triton.jit
def keys_of_blocks(seed: tl.tensor, first: tl.tensor, COUNT: tl.constexpr):
    """The keys of the permutations of COUNT blocks, (COUNT, 8)."""
    block = first + tl.arange(0, COUNT)
    return words(seed, PERMUTATION, block[:, None] * KEYS + tl.arange(0, KEYS)[None, :])


@triton.jit
def key_of_round(keys: tl.tensor, r: tl.constexpr):
    """Column r of the keys, (blocks, 1)."""
    column = tl.arange(0, KEYS)[None, :] == r
    return tl.sum(tl.where(column, keys, 0), axis=1)[:, None]


@triton.jit
def scramble(
    x: tl.tensor, keys: tl.tensor, FIRST: tl.constexpr, ROUNDS: tl.constexpr, BITS: tl.constexpr
):
    """`random._scramble`: the image of each x under its block's bijection, (blocks, 2^BITS)."""
    for r in tl.static_range(ROUNDS):
        key = key_of_round(keys, FIRST + r)
        x = ((x ^ (key >> 16)) * (key | 1)) & ((1 << BITS) - 1)
        x = x ^ (x >> (BITS // 2 + 1 if r % 2 else (BITS + 1) // 2))
    return x


@triton.jit
def unscramble(
    x: tl.tensor, keys: tl.tensor, FIRST: tl.constexpr, ROUNDS: tl.constexpr, BITS: tl.constexpr
):
    """The inverse of `scramble`."""
    inverses = odd_inverse(keys | 1)
    for r in tl.static_range(ROUNDS - 1, -1, -1):
        key = key_of_round(keys, FIRST + r)
        # Its own inverse, because twice the shift is all the bits.
        x = x ^ (x >> (BITS // 2 + 1 if r % 2 else (BITS + 1) // 2))
        x = ((x * key_of_round(inverses, FIRST + r)) ^ (key >> 16)) & ((1 << BITS) - 1)
    return x


@triton.jit
def odd_inverse(x: tl.tensor):
    """1 / x modulo 2^32, x odd: Newton's steps, each of which doubles the 3 bits of the start."""
    y = x
    for _ in tl.static_range(4):
        y = y * (2 - x * y)
    return y
