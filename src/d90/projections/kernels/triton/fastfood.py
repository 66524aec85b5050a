"""Fastfood as Triton kernels, a block's transforms inside one program.

Specification: d90/projections/fastfood.py. Kernels work on tiles of whole blocks; see
triton/random.py for the shape of what a tile has.
"""

# Triton's language only looks like Python: the compiler checks its types, in the tests.
# pyright: reportArgumentType=false, reportCallIssue=false, reportInvalidTypeForm=false
# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false
from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from d90.projections.kernels.base import RowBlock
from d90.projections.kernels.triton.random import (
    LANES,
    SQUARE,
    flipped,
    keys_of_blocks,
    lane_of,
    normals,
    once,
    order_of,
    row_words,
    scramble,
    tables,
    unscramble,
)
from d90.projections.kernels.triton.segments import collect, emit, launches, overlap
from d90.rng import philox

STREAM = tl.constexpr(int(philox.Stream.FASTFOOD))
ROWS = tl.constexpr(int(philox.Stream.FASTFOOD_ROWS))

LARGEST = 2**14
"""Largest d: a longer block does not fit the registers of a program."""

_TILE = 2**11

_PARTIAL = 3 * 2**20
"""Numbers in the partial sums of the adjoint, at most: 12 MB."""


def apply(d: int, D: int, seed: int, z: Tensor, rows: Sequence[RowBlock]) -> None:
    """See `d90.projections.kernels.triton.apply`."""
    lines, orders, _ = tables(z.device)
    bits, tile, warps = _shape(d)
    norm, nonzero = 1 / math.sqrt((1 << bits) * D), z.any()
    for launch in launches(rows, D, tile, z.device):
        where = (launch.table, lines, orders, seed, launch.first)
        apply_tiles[(launch.tiles,)](
            z, nonzero, *where, d, norm, BITS=bits, num_warps=warps, **launch.options
        )


def adjoint(d: int, D: int, seed: int, out: Tensor, rows: Sequence[RowBlock]) -> None:
    """See `d90.projections.kernels.triton.adjoint`.

    Each program sums its tiles one after another; torch sums the programs, in a fixed order.
    """
    lines, _, inverses = tables(out.device)
    bits, tile, warps = _shape(d)
    sums = []
    for launch in launches(rows, D, tile, out.device):
        partial = out.new_empty(min(launch.tiles, _PARTIAL // tile), tile)
        where = (launch.table, lines, inverses, seed, launch.first)
        adjoint_tiles[(len(partial),)](
            partial, *where, launch.tiles, BITS=bits, num_warps=warps, **launch.options
        )
        sums.append(partial.view(-1, 1 << bits).sum(0)[:d])
    total = sum(sums[1:], sums[0]) if sums else out.zero_()
    torch.mul(total, 1 / math.sqrt((1 << bits) * D), out=out)


def _shape(d: int) -> tuple[int, int, int]:
    """log2 of a block, entries of a tile, and warps: a thread holds 16 entries, 32 at the most."""
    bits = (d - 1).bit_length()
    tile = max(_TILE, 1 << bits)
    return bits, tile, min(16, tile // 512)


@triton.jit
def hadamard(x: tl.tensor, BITS: tl.constexpr, TILE: tl.constexpr):
    """The transform of each 2^BITS entries of x, (TILE,), not normalized."""
    return levels(x, 0, BITS, TILE)


@triton.jit
def levels(x: tl.tensor, FIRST: tl.constexpr, LAST: tl.constexpr, TILE: tl.constexpr):
    """Levels FIRST to LAST, not included, of the transform of x, (TILE,)."""
    for level in tl.static_range(FIRST, LAST):
        pairs = tl.reshape(x, (TILE >> (level + 1), 2, 1 << level))
        left, right = tl.split(tl.permute(pairs, (0, 2, 1)))
        both = tl.join(left + right, left - right)
        x = tl.reshape(tl.permute(both, (0, 2, 1)), (TILE,))
    return x


@triton.jit
def words_of_tile(seed: tl.tensor, low: tl.tensor, TILE: tl.constexpr):
    """The two words of each row of a tile, (TILE / 16,): signs of B, and both orders of Pi."""
    first, second = row_words(seed, ROWS, low // LANES + tl.arange(0, TILE // LANES))
    return once(first), once(second)


@triton.jit
def signed(x: tl.tensor, first: tl.tensor, TILE: tl.constexpr):
    """`B x` for the entries of a tile, (TILE,), by the first words of its rows."""
    x = tl.reshape(x, (TILE // 256, LANES, LANES))
    return tl.reshape(flipped(x, tl.reshape(first, (TILE // 256, LANES))), (TILE,))


@triton.jit
def places(
    row: tl.tensor,
    low: tl.tensor,
    high: tl.tensor,
    ACROSS: tl.constexpr,
    INTO: tl.constexpr,
    TILE: tl.constexpr,
):
    """Where rows in an order of their lanes come from, (TILE,).

    Args:
        row, low, high: of the tile, and their orders, packed, (TILE / 16,).
        ACROSS: whether the result is transposed square by square.
        INTO: whether the squares that it points into are.
    """
    row = tl.reshape(row, (TILE // SQUARE, LANES))
    low = tl.reshape(low, (TILE // SQUARE, LANES))
    high = tl.reshape(high, (TILE // SQUARE, LANES))
    if ACROSS:
        lane = lane_of(low[:, None, :], high[:, None, :], tl.arange(0, LANES)[None, :, None])
        row = row[:, None, :]
    else:
        lane = lane_of(low[:, :, None], high[:, :, None], tl.arange(0, LANES)[None, None, :])
        row = row[:, :, None]
    if INTO:
        return tl.reshape(row // LANES * SQUARE + lane * LANES + row % LANES, (TILE,))
    else:
        return tl.reshape(row * LANES + lane, (TILE,))


@triton.jit
def permuted(
    x: tl.tensor,
    seed: tl.tensor,
    low: tl.tensor,
    first: tl.tensor,
    second: tl.tensor,
    orders: tl.tensor,
    BITS: tl.constexpr,
    TILE: tl.constexpr,
):
    """`Pi x` block by block, (TILE,)."""
    keys = keys_of_blocks(seed, low >> BITS, TILE >> BITS)
    if BITS < 8:
        place = scramble(_within(BITS), keys, 0, 8, BITS)
        x = tl.gather(x, tl.reshape(_of_tile(place, BITS), (TILE,)), 0)
    else:
        row = _rows_of_tile(scramble(_within(BITS - 4), keys, 0, 4, BITS - 4), BITS - 4, TILE)
        left, right = order_of(first, orders)
        x = tl.gather(x, places(row, left, right, True, True, TILE), 0)
        row = _rows_of_tile(scramble(_within(BITS - 4), keys, 4, 4, BITS - 4), BITS - 4, TILE)
        left, right = order_of(second, orders)
        x = tl.gather(x, places(row, left, right, True, False, TILE), 0)
    return x


@triton.jit
def permuted_back(
    x: tl.tensor,
    seed: tl.tensor,
    low: tl.tensor,
    first: tl.tensor,
    second: tl.tensor,
    inverses: tl.tensor,
    BITS: tl.constexpr,
    TILE: tl.constexpr,
):
    """`Pi^T x` block by block, (TILE,). A gather too: images are followed backwards."""
    keys = keys_of_blocks(seed, low >> BITS, TILE >> BITS)
    if BITS < 8:
        place = unscramble(_within(BITS), keys, 0, 8, BITS)
        x = tl.gather(x, tl.reshape(_of_tile(place, BITS), (TILE,)), 0)
    else:
        row = _rows_of_tile(unscramble(_within(BITS - 4), keys, 4, 4, BITS - 4), BITS - 4, TILE)
        left, right = order_of(tl.gather(second, row, 0), inverses)
        x = tl.gather(x, places(row, left, right, False, True, TILE), 0)
        row = _rows_of_tile(unscramble(_within(BITS - 4), keys, 0, 4, BITS - 4), BITS - 4, TILE)
        left, right = order_of(tl.gather(first, row, 0), inverses)
        x = tl.gather(x, places(row, left, right, True, True, TILE), 0)
    return x


@triton.jit
def _within(BITS: tl.constexpr):
    """Places of a block, (1, 2^BITS)."""
    return tl.arange(0, 1 << BITS).to(tl.uint32)[None, :]


@triton.jit
def _of_tile(place: tl.tensor, BITS: tl.constexpr):
    """Places in blocks, (blocks, 2^BITS), as places in the tile."""
    return place.to(tl.int32) + (tl.arange(0, place.shape[0])[:, None] << BITS)


@triton.jit
def _rows_of_tile(row: tl.tensor, BITS: tl.constexpr, TILE: tl.constexpr):
    """Rows in blocks as rows in the tile, (TILE / 16,)."""
    return once(tl.reshape(_of_tile(row, BITS), (TILE // LANES,)))


@triton.jit(do_not_specialize=["seed", "first_tile", "d"])
def apply_tiles(
    z: tl.tensor,
    nonzero: tl.tensor,
    segments: tl.tensor,
    lines: tl.tensor,
    orders: tl.tensor,
    seed: tl.uint64,
    first_tile: tl.int64,
    d: tl.int32,
    norm: tl.float32,
    BITS: tl.constexpr,
    TYPE: tl.constexpr,
    COUNT: tl.constexpr,
    TILE: tl.constexpr,
):
    """`H G Pi H B z` for the blocks of a tile, added to what its tensors hold."""
    low = (first_tile + tl.program_id(0)).to(tl.int64) * TILE
    first, last = overlap(segments, low, TILE, COUNT)
    if first == last:
        return
    at = tl.arange(0, TILE) & ((1 << BITS) - 1)
    one, two = words_of_tile(seed, low, TILE)
    x = signed(tl.load(z + at, mask=at < d, other=0.0), one, TILE)
    x = permuted(hadamard(x, BITS, TILE), seed, low, one, two, orders, BITS, TILE)
    x = hadamard(x * normals(seed, STREAM, low, lines, BITS >= 8, TILE), BITS, TILE)
    all_rows = tl.arange(0, TILE)
    emit(segments, first, last, low, all_rows, x * norm, tl.load(nonzero), TYPE, TILE)


@triton.jit(do_not_specialize=["seed", "first_tile", "tiles"])
def adjoint_tiles(
    partial: tl.tensor,
    segments: tl.tensor,
    lines: tl.tensor,
    inverses: tl.tensor,
    seed: tl.uint64,
    first_tile: tl.int64,
    tiles: tl.int32,
    BITS: tl.constexpr,
    TYPE: tl.constexpr,
    COUNT: tl.constexpr,
    TILE: tl.constexpr,
):
    """The sum over every `programs`-th tile, in its order, to a part of its own, (TILE,)."""
    total = tl.zeros((TILE,), tl.float32)
    for tile in range(tl.program_id(0), tiles, tl.num_programs(0)):
        low = (first_tile + tile).to(tl.int64) * TILE
        first, last = overlap(segments, low, TILE, COUNT)
        x = collect(segments, first, last, low, tl.arange(0, TILE), TYPE, TILE)
        # Rows without a gradient, as of words that a batch lacks, cost no projection.
        if tl.max((x != 0).to(tl.int32)) > 0:
            x = hadamard(x, BITS, TILE) * normals(seed, STREAM, low, lines, BITS >= 8, TILE)
            one, two = words_of_tile(seed, low, TILE)
            x = permuted_back(x, seed, low, one, two, inverses, BITS, TILE)
            total += signed(hadamard(x, BITS, TILE), one, TILE)
    tl.store(partial + tl.program_id(0) * TILE + tl.arange(0, TILE), total)
