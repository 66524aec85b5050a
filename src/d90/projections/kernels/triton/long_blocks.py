"""Fastfood as Triton kernels, for blocks that are too long for one program: d above 2^14.

A transform is cut at level `_LOW`. Its low levels stay within tiles of neighbors; the others need
one entry of many tiles, so a tile of theirs is a few neighbors from each. What is between goes
through scratch memory that the second-level cache of a GPU holds, a batch of blocks at a time:

    apply:    signs, low levels | high levels | permutation, G, low levels | high levels, weights
    adjoint:  weights, high levels | low levels, G, permutation | high levels | low levels, signs

Levels of `apply` ascend, as in the reference, so it has the bits of the reference.
"""

# Triton's language only looks like Python: the compiler checks its types, in the tests.
# pyright: reportArgumentType=false, reportCallIssue=false, reportInvalidTypeForm=false
# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false
from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from d90.projections.kernels.base import RowBlock
from d90.projections.kernels.triton.fastfood import (
    STREAM,
    hadamard,
    levels,
    places,
    signed,
    words_of_tile,
)
from d90.projections.kernels.triton.random import (
    LANES,
    ORDERS,
    SQUARE,
    keys_of_blocks,
    normals,
    once,
    order_of,
    scramble,
    tables,
)
from d90.projections.kernels.triton.segments import collect, emit, launches, overlap

LARGEST = 2**21
"""Largest d: of a longer block, not even one fits the scratch memory."""

_LOW = 12
"""Levels within a tile, of 2^12 entries. A block has at most twice as many."""

_BATCH = 3 * 2**20
"""Entries of a batch, unless one block has more. Two copies of it, a sixteenth for the permutation
and the partial sums of the adjoint take 29 MB at most."""

_PARTIAL = 2**20
"""Numbers in the partial sums of the adjoint, unless one block has more."""

_WARPS = 8


class _Batch(NamedTuple):
    """Blocks that go through the scratch memory together.

    Attributes:
        table: of the tensors.
        first: the first block.
        blocks: how many.
        grid: a program for each tile of each block.
        kind: dtype of the tensors.
        options: the other constants of every kernel, and how to compile it.
    """

    table: Tensor
    first: int
    blocks: int
    grid: tuple[int, int]
    kind: tl.dtype
    options: dict[str, Any]


def apply(d: int, D: int, seed: int, z: Tensor, rows: Sequence[RowBlock]) -> None:
    """See `d90.projections.kernels.triton.apply`."""
    lines, orders, _ = tables(z.device)
    bits = (d - 1).bit_length()
    norm, nonzero = 1 / math.sqrt((1 << bits) * D), z.any()
    x, y, sources = _scratch(bits, z)
    for table, first, _, grid, kind, options in _batches(rows, D, bits, z.device):
        spread[grid](x, sources, z, table, seed, first, d, **options)
        high_levels[grid](x, table, first, **options)
        gather[grid](y, x, sources, table, lines, orders, seed, first, **options)
        emit_tiles[grid](y, nonzero, table, first, norm, **options, TYPE=kind)


def adjoint(d: int, D: int, seed: int, out: Tensor, rows: Sequence[RowBlock]) -> None:
    """See `d90.projections.kernels.triton.adjoint`.

    Each program of the last kernel sums some of a batch's blocks, one after another, and batches
    follow one another; torch sums the programs, in a fixed order.
    """
    lines, orders, _ = tables(out.device)
    bits = (d - 1).bit_length()
    x, y, sources = _scratch(bits, out)
    partial = out.new_zeros(max(1, _PARTIAL >> bits), 1 << bits)
    for table, first, blocks, grid, kind, options in _batches(rows, D, bits, out.device):
        collect_tiles[grid](x, sources, table, seed, first, **options, TYPE=kind)
        scatter[grid](y, x, sources, table, lines, orders, seed, first, **options)
        high_levels[grid](y, table, first, **options)
        programs = grid[0], min(len(partial), blocks)
        add_tiles[programs](partial, y, table, seed, first, blocks, **options)
    torch.mul(partial.sum(0)[:d], 1 / math.sqrt((1 << bits) * D), out=out)


def _scratch(bits: int, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Two copies of a batch, and what the gather needs to know of each row of sixteen."""
    entries = max(1, _BATCH >> bits) << bits
    x, y = like.new_empty(2, entries)
    return x, y, like.new_empty(entries // LANES.value, dtype=torch.int32)


def _batches(rows: Sequence[RowBlock], D: int, bits: int, device: torch.device) -> Iterator[_Batch]:
    size = max(1, _BATCH >> bits)
    for launch in launches(rows, D, 1 << bits, device):
        options = launch.options | {"BITS": bits, "LOW": _LOW, "num_warps": _WARPS}
        kind, _ = options.pop("TYPE"), options.pop("TILE")
        for start in range(0, launch.tiles, size):
            blocks = min(size, launch.tiles - start)
            grid = 1 << (bits - _LOW), blocks
            yield _Batch(launch.table, launch.first + start, blocks, grid, kind, options)


@triton.jit
def is_needed(segments: tl.tensor, block: tl.tensor, BITS: tl.constexpr, COUNT: tl.constexpr):
    """Whether a tensor has rows of a block."""
    first, last = overlap(segments, block << BITS, 1 << BITS, COUNT)
    return first != last


@triton.jit
def low_places(LOW: tl.constexpr):
    """Places in the block of this program's tile for the low levels, (2^LOW,)."""
    return (tl.program_id(0) << LOW) + tl.arange(0, 1 << LOW)


@triton.jit
def high_places(BITS: tl.constexpr, LOW: tl.constexpr):
    """Places in the block of this program's tile for the high levels, (2^HIGH, neighbors)."""
    row = tl.arange(0, 1 << (BITS - LOW)) << LOW
    column = (tl.program_id(0) << (2 * LOW - BITS)) + tl.arange(0, 1 << (2 * LOW - BITS))
    return row[:, None] + column[None, :]


@triton.jit
def to_high(x: tl.tensor, BITS: tl.constexpr, LOW: tl.constexpr):
    """The high levels of a tile of `high_places`, shaped like it."""
    flat = levels(tl.reshape(x, (1 << LOW,)), 2 * LOW - BITS, LOW, 1 << LOW)
    return tl.reshape(flat, (1 << (BITS - LOW), 1 << (2 * LOW - BITS)))


@triton.jit
def write_sources(
    sources: tl.tensor,
    first: tl.tensor,
    seed: tl.tensor,
    block: tl.tensor,
    BITS: tl.constexpr,
    LOW: tl.constexpr,
):
    """The first stage of Pi for the rows of a tile, which the rows of any tile may ask for.

    Where a row comes from, and above it in the same number the order of its lanes.
    """
    row = (tl.program_id(0) << (LOW - 4)) + tl.arange(0, 1 << (LOW - 4))
    keys = keys_of_blocks(seed, block, 1)
    source = tl.reshape(scramble(row.to(tl.uint32)[None, :], keys, 0, 4, BITS - 4), row.shape)
    order = (first >> 16) * ORDERS >> 16
    start = sources + tl.program_id(1) * (1 << (BITS - 4))
    tl.store(start + row, (source | (order << (BITS - 4))).to(tl.int32))


@triton.jit
def sources_of_tile(
    sources: tl.tensor,
    second: tl.tensor,
    orders: tl.tensor,
    seed: tl.tensor,
    block: tl.tensor,
    BITS: tl.constexpr,
    LOW: tl.constexpr,
):
    """Where Pi takes the entries of a tile from in their block, both stages, (2^LOW,)."""
    row = (tl.program_id(0) << (LOW - 4)) + tl.arange(0, 1 << (LOW - 4))
    keys = keys_of_blocks(seed, block, 1)
    row = tl.reshape(scramble(row.to(tl.uint32)[None, :], keys, 4, 4, BITS - 4), row.shape)
    left, right = order_of(second, orders)
    place = places(once(row.to(tl.int32)), left, right, True, True, 1 << LOW)
    start = sources + tl.program_id(1) * (1 << (BITS - 4))
    entry, lane = tl.load(start + (place >> 4)), place & (LANES - 1)
    order = tl.load(orders + 2 * (entry >> (BITS - 4)) + (lane >> 3))
    lane = (order >> 4 * (lane & 7)) & (LANES - 1)
    row = entry & ((1 << (BITS - 4)) - 1)
    return row // LANES * SQUARE + lane * LANES + row % LANES


@triton.jit(do_not_specialize=["seed", "first_block", "d"])
def spread(
    x: tl.tensor,
    sources: tl.tensor,
    z: tl.tensor,
    segments: tl.tensor,
    seed: tl.uint64,
    first_block: tl.int64,
    d: tl.int32,
    COUNT: tl.constexpr,
    BITS: tl.constexpr,
    LOW: tl.constexpr,
):
    """The low levels of `H B z`, tile by tile, and the first stage of Pi."""
    block = first_block + tl.program_id(1)
    if is_needed(segments, block, BITS, COUNT):
        at = low_places(LOW)
        first, _ = words_of_tile(seed, (block << BITS) + (tl.program_id(0) << LOW), 1 << LOW)
        write_sources(sources, first, seed, block, BITS, LOW)
        value = signed(tl.load(z + at, mask=at < d, other=0.0), first, 1 << LOW)
        tl.store(x + (tl.program_id(1) << BITS) + at, hadamard(value, LOW, 1 << LOW))


@triton.jit(do_not_specialize=["first_block"])
def high_levels(
    x: tl.tensor,
    segments: tl.tensor,
    first_block: tl.int64,
    COUNT: tl.constexpr,
    BITS: tl.constexpr,
    LOW: tl.constexpr,
):
    """The high levels of a transform, in place."""
    if is_needed(segments, first_block + tl.program_id(1), BITS, COUNT):
        pointer = x + (tl.program_id(1) << BITS) + high_places(BITS, LOW)
        tl.store(pointer, to_high(tl.load(pointer), BITS, LOW))


@triton.jit(do_not_specialize=["seed", "first_block"])
def gather(
    y: tl.tensor,
    x: tl.tensor,
    sources: tl.tensor,
    segments: tl.tensor,
    lines: tl.tensor,
    orders: tl.tensor,
    seed: tl.uint64,
    first_block: tl.int64,
    COUNT: tl.constexpr,
    BITS: tl.constexpr,
    LOW: tl.constexpr,
):
    """The low levels of `H G Pi x`, tile by tile."""
    block, start = first_block + tl.program_id(1), tl.program_id(1) << BITS
    if is_needed(segments, block, BITS, COUNT):
        low = (block << BITS) + (tl.program_id(0) << LOW)
        _, second = words_of_tile(seed, low, 1 << LOW)
        source = sources_of_tile(sources, second, orders, seed, block, BITS, LOW)
        value = tl.load(x + start + source) * normals(seed, STREAM, low, lines, True, 1 << LOW)
        tl.store(y + start + low_places(LOW), hadamard(value, LOW, 1 << LOW))


@triton.jit(do_not_specialize=["first_block"])
def emit_tiles(
    y: tl.tensor,
    nonzero: tl.tensor,
    segments: tl.tensor,
    first_block: tl.int64,
    norm: tl.float32,
    COUNT: tl.constexpr,
    BITS: tl.constexpr,
    LOW: tl.constexpr,
    TYPE: tl.constexpr,
):
    """The high levels of a transform, added to what the tensors hold."""
    low = (first_block + tl.program_id(1)) << BITS
    first, last = overlap(segments, low, 1 << BITS, COUNT)
    if first != last:
        at = high_places(BITS, LOW)
        value = to_high(tl.load(y + (tl.program_id(1) << BITS) + at), BITS, LOW) * norm
        emit(segments, first, last, low, at, value, tl.load(nonzero), TYPE, 1 << BITS)


@triton.jit(do_not_specialize=["seed", "first_block"])
def collect_tiles(
    x: tl.tensor,
    sources: tl.tensor,
    segments: tl.tensor,
    seed: tl.uint64,
    first_block: tl.int64,
    COUNT: tl.constexpr,
    BITS: tl.constexpr,
    LOW: tl.constexpr,
    TYPE: tl.constexpr,
):
    """The high levels of `H g`, tile by tile, and the first stage of Pi."""
    block = first_block + tl.program_id(1)
    low = block << BITS
    first, last = overlap(segments, low, 1 << BITS, COUNT)
    if first != last:
        word, _ = words_of_tile(seed, low + (tl.program_id(0) << LOW), 1 << LOW)
        write_sources(sources, word, seed, block, BITS, LOW)
        at = high_places(BITS, LOW)
        value = collect(segments, first, last, low, at, TYPE, 1 << BITS)
        tl.store(x + (tl.program_id(1) << BITS) + at, to_high(value, BITS, LOW))


@triton.jit(do_not_specialize=["seed", "first_block"])
def scatter(
    y: tl.tensor,
    x: tl.tensor,
    sources: tl.tensor,
    segments: tl.tensor,
    lines: tl.tensor,
    orders: tl.tensor,
    seed: tl.uint64,
    first_block: tl.int64,
    COUNT: tl.constexpr,
    BITS: tl.constexpr,
    LOW: tl.constexpr,
):
    """`Pi^T G x` after the low levels of a transform of x: no two entries go to one place."""
    block, start = first_block + tl.program_id(1), tl.program_id(1) << BITS
    if is_needed(segments, block, BITS, COUNT):
        low = (block << BITS) + (tl.program_id(0) << LOW)
        value = hadamard(tl.load(x + start + low_places(LOW)), LOW, 1 << LOW)
        value *= normals(seed, STREAM, low, lines, True, 1 << LOW)
        _, second = words_of_tile(seed, low, 1 << LOW)
        tl.store(
            y + start + sources_of_tile(sources, second, orders, seed, block, BITS, LOW), value
        )


@triton.jit(do_not_specialize=["seed", "first_block", "blocks"])
def add_tiles(
    partial: tl.tensor,
    y: tl.tensor,
    segments: tl.tensor,
    seed: tl.uint64,
    first_block: tl.int64,
    blocks: tl.int32,
    COUNT: tl.constexpr,
    BITS: tl.constexpr,
    LOW: tl.constexpr,
):
    """Adds `B H y` after its high levels, over every `programs`-th block, to a part of its own."""
    at = low_places(LOW)
    part = partial + (tl.program_id(1) << BITS) + at
    total = tl.load(part)
    for slot in range(tl.program_id(1), blocks, tl.num_programs(1)):
        block = first_block + slot
        if is_needed(segments, block, BITS, COUNT):
            value = hadamard(tl.load(y + (slot << BITS) + at), LOW, 1 << LOW)
            low = (block << BITS) + (tl.program_id(0) << LOW)
            first, _ = words_of_tile(seed, low, 1 << LOW)
            total += signed(value, first, 1 << LOW)
    tl.store(part, total)
