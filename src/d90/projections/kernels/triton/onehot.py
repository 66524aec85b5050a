"""The one-hot projection as Triton kernels. Specification: d90/projections/onehot.py."""

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
    flipped,
    lane_of,
    once,
    order_of,
    row_words,
    tables,
)
from d90.projections.kernels.triton.segments import collect, emit, launches, overlap
from d90.rng import philox

STREAM = tl.constexpr(int(philox.Stream.ONEHOT))

LARGEST = 2**30
"""Largest d: columns are signed 32-bit numbers, also before they wrap."""

_TILE = 4096
_WRAP = philox.LANES - 1

_BITS = 36
"""What one weight adds to a gradient has at most so many bits."""

_SMALLEST = tl.constexpr(-90)
"""Gradients that are all below 2^-90 count in the units of 2^-90: no power of two overflows."""

_COLUMNS = 256
"""Columns of the gradient that a program writes."""

_SUMMANDS = 64
"""Of one column, at most so many are added by the kernel that writes the gradient."""

_SPREAD = 2**14
"""Numbers in the copies of a short gradient: additions to one number wait for one another."""


def apply(d: int, D: int, seed: int, z: Tensor, rows: Sequence[RowBlock]) -> None:
    """See `d90.projections.kernels.triton.apply`."""
    _, orders, _ = tables(z.device)
    # Sixteen neighbors from any column on, without a remainder.
    wrapped = torch.cat([z] * (1 + _WRAP // d) + [z[: _WRAP % d]])
    norm, nonzero = math.sqrt(d / D), z.any()
    for launch in launches(rows, D, _TILE, z.device):
        where = (launch.table, orders, seed, launch.first)
        apply_tiles[(launch.tiles,)](wrapped, nonzero, *where, d, norm, **launch.options)


def adjoint(d: int, D: int, seed: int, out: Tensor, rows: Sequence[RowBlock]) -> None:
    """See `d90.projections.kernels.triton.adjoint`.

    Columns are random, so the sums are atomic additions, of whole numbers: those have no order. The
    unit is 2^-36 of the largest gradient, or more where sums of so many weights could overflow. A
    gradient that is not finite makes all of the result NaN.
    """
    _, orders, _ = tables(out.device)
    parts = launches(rows, D, _TILE, out.device)
    bits = min(_BITS, 62 - sum(launch.weights for launch in parts).bit_length())
    copies, length = max(1, _SPREAD // d), -(-(d + _WRAP) // d) * d
    # Two numbers ahead keep the sums aligned.
    zeros = torch.zeros(2 + copies * length, dtype=torch.int64, device=out.device)
    largest, total = zeros.view(torch.int32), zeros[2:]
    for launch in parts:
        largest_of_tiles[(launch.tiles,)](largest, launch.table, launch.first, **launch.options)
    for launch in parts:
        where = (launch.table, orders, seed, launch.first)
        adjoint_tiles[(launch.tiles,)](
            total, largest, *where, d, bits, copies, length, **launch.options
        )
    norm, summands = math.sqrt(d / D), copies * length // d
    if summands > _SUMMANDS:  # One after another they would take longer than another launch.
        total, summands = total.view(summands, d).sum(0), 1
    options = {"COLUMNS": _COLUMNS, "enable_fp_fusion": False}
    to_gradient[(triton.cdiv(d, _COLUMNS),)](
        out, total, largest, d, bits, summands, norm, **options
    )


@triton.jit
def columns(seed: tl.tensor, low: tl.tensor, d: tl.tensor, orders: tl.tensor, TILE: tl.constexpr):
    """Columns of the tile's rows, before they wrap at d, and the words with their signs."""
    row = low // LANES + tl.arange(0, TILE // LANES)
    shape, base = row_words(seed, STREAM, row)
    start = once(tl.umulhi((base >> 1) << 1, tl.zeros_like(base) + d.to(tl.uint32)).to(tl.int32))
    left, right = order_of(shape, orders)
    left = tl.reshape(left, (TILE // 256, LANES))[:, :, None]
    right = tl.reshape(right, (TILE // 256, LANES))[:, :, None]
    lane = lane_of(left, right, tl.arange(0, LANES)[None, None, :])
    start = tl.reshape(start, (TILE // 256, LANES))[:, :, None]
    return start + lane, tl.reshape(once(shape), (TILE // 256, LANES))


@triton.jit(do_not_specialize=["seed", "first_tile", "d"])
def apply_tiles(
    z: tl.tensor,
    nonzero: tl.tensor,
    segments: tl.tensor,
    orders: tl.tensor,
    seed: tl.uint64,
    first_tile: tl.int64,
    d: tl.int32,
    norm: tl.float32,
    TYPE: tl.constexpr,
    COUNT: tl.constexpr,
    TILE: tl.constexpr,
):
    """One-hot rows of a tile, added to what its tensors hold."""
    low = (first_tile + tl.program_id(0)).to(tl.int64) * TILE
    first, last = overlap(segments, low, TILE, COUNT)
    if first == last:
        return
    column, shape = columns(seed, low, d, orders, TILE)
    value = flipped(tl.load(z + column), shape) * norm
    value, all_rows = tl.reshape(value, (TILE,)), tl.arange(0, TILE)
    emit(segments, first, last, low, all_rows, value, tl.load(nonzero), TYPE, TILE)


@triton.jit(do_not_specialize=["first_tile"])
def largest_of_tiles(
    out: tl.tensor,
    segments: tl.tensor,
    first_tile: tl.int64,
    TYPE: tl.constexpr,
    COUNT: tl.constexpr,
    TILE: tl.constexpr,
):
    """The bits of the largest size of a gradient; as whole numbers, NaN is larger than all."""
    low = (first_tile + tl.program_id(0)).to(tl.int64) * TILE
    first, last = overlap(segments, low, TILE, COUNT)
    if first == last:
        return
    size = tl.abs(collect(segments, first, last, low, tl.arange(0, TILE), TYPE, TILE))
    tl.atomic_max(out, tl.max(size.to(tl.int32, bitcast=True)), sem="relaxed")


@triton.jit(do_not_specialize=["seed", "first_tile", "d", "bits", "copies", "length"])
def adjoint_tiles(
    total: tl.tensor,
    largest: tl.tensor,
    segments: tl.tensor,
    orders: tl.tensor,
    seed: tl.uint64,
    first_tile: tl.int64,
    d: tl.int32,
    bits: tl.int32,
    copies: tl.int32,
    length: tl.int32,
    TYPE: tl.constexpr,
    COUNT: tl.constexpr,
    TILE: tl.constexpr,
):
    """Adds gradients in whole units of 2^(exponent - bits): such sums have no order."""
    low = (first_tile + tl.program_id(0)).to(tl.int64) * TILE
    first, last = overlap(segments, low, TILE, COUNT)
    if first == last:
        return
    exponent = _exponent(largest)
    units = ((127 + bits - exponent) << 23).to(tl.float32, bitcast=True)
    g = collect(segments, first, last, low, tl.arange(0, TILE), TYPE, TILE)
    g = tl.reshape(g, (TILE // 256, LANES, LANES))
    column, shape = columns(seed, low, d, orders, TILE)
    whole = tl.floor(flipped(g, shape) * units + 0.5).to(tl.int64)
    copy = total + (tl.program_id(0) % copies) * length
    # Rows without a gradient, as of words that a batch lacks, cost no addition.
    tl.atomic_add(copy + column, whole, mask=whole != 0, sem="relaxed")


@triton.jit(do_not_specialize=["d", "bits", "summands"])
def to_gradient(
    out: tl.tensor,
    total: tl.tensor,
    largest: tl.tensor,
    d: tl.int32,
    bits: tl.int32,
    summands: tl.int32,
    norm: tl.float64,
    COLUMNS: tl.constexpr,
):
    """The sums of so many summands of `total`, d columns each, from units to float32."""
    column = tl.program_id(0).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
    inside = column < d
    whole = tl.zeros((COLUMNS,), tl.int64)
    for part in range(summands):
        whole += tl.load(total + part * d.to(tl.int64) + column, mask=inside, other=0)
    exponent = _exponent(largest)
    # The float64 of exactly that power of two, by its bits.
    unit = ((exponent - bits + 1023).to(tl.int64) << 52).to(tl.float64, bitcast=True)
    # An exponent of all ones is infinity or no number, and has no units.
    gradient = tl.where(exponent < 129, whole.to(tl.float64) * unit * norm, float("nan"))
    tl.store(out + column, gradient.to(tl.float32), mask=inside)


@triton.jit
def _exponent(largest: tl.tensor):
    """Of the largest gradient, so that all are below 2^exponent; 129 if one is not finite."""
    return tl.maximum((tl.load(largest) >> 23) - 126, _SMALLEST)
