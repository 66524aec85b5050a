"""Rows of P that belong to several tensors, read and written by one launch of a Triton kernel.

A table of int64 numbers on the device, a line a tensor: its first row, the row behind its last,
the addresses of source (0 where there is none) and target, and the bits of its float32 scale.
"""

# Triton's language only looks like Python: the compiler checks its types, in the tests.
# pyright: reportArgumentType=false, reportCallIssue=false, reportInvalidTypeForm=false
# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false, reportAttributeAccessIssue=false
from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from d90.projections.kernels.base import RowBlock

FIELDS = tl.constexpr(5)

_TYPES = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}
_NOWHERE = 2**62

_FEWEST_LINES = 32
"""A table is filled up to so many lines: its length is a constant of the kernel, and each length
takes another compilation."""

ALIGNED = tl.constexpr(16)
"""Bytes of a vector access, of which its address is a multiple."""


class Launch(NamedTuple):
    """The tiles that the tensors of one type touch.

    Attributes:
        table: of those tensors.
        first: the first tile.
        tiles: how many.
        options: constants of every kernel, and how to compile it.
    """

    table: Tensor
    first: int
    tiles: int
    options: dict[str, Any]


def launches(rows: Sequence[RowBlock], tile: int, device: torch.device) -> Iterator[Launch]:
    """One launch for each type among the tensors."""
    for dtype, kind in _TYPES.items():
        runs = [run for run in rows if _long(run).dtype == dtype and _long(run).numel()]
        if runs:
            table = _table(runs, device)
            first, last = runs[0].start // tile, -(-stop(runs[-1]) // tile)
            # A fused multiply-add rounds once where the reference rounds twice.
            constants = {"TYPE": kind, "COUNT": len(table), "TILE": tile, "enable_fp_fusion": False}
            yield Launch(table, first, last - first, constants)


def _table(rows: Sequence[RowBlock], device: torch.device) -> Tensor:
    """Lines of no rows are added up to a power of two: a tile reads all of them at once."""
    lines = [_line(run) for run in rows]
    missing = max(_FEWEST_LINES, triton.next_power_of_2(len(lines))) - len(lines)
    lines += missing * [[_NOWHERE, _NOWHERE, 0, 0, 0]]
    return torch.tensor(lines, dtype=torch.int64).to(device, non_blocking=True)


def _line(run: RowBlock) -> list[int]:
    source = run.source.data_ptr() if run.source is not None else 0
    target = run.target.data_ptr() if run.target is not None else 0
    (scale,) = struct.unpack("<i", struct.pack("<f", run.scale))
    return [run.start, stop(run), source, target, scale]


def stop(run: RowBlock) -> int:
    """The row behind the last of a run."""
    return run.start + _long(run).numel()


def _long(run: RowBlock) -> Tensor:
    tensor = run.target if run.source is None else run.source
    assert tensor is not None
    return tensor


@triton.jit
def overlap(segments: tl.tensor, low: tl.tensor, TILE: tl.constexpr, COUNT: tl.constexpr):
    """Which lines have rows of the tile from `low` on: `first` and `last`, not included."""
    line = segments + tl.arange(0, COUNT) * FIELDS
    first = tl.sum((tl.load(line + 1) <= low).to(tl.int32))
    last = tl.sum((tl.load(line) < low + TILE).to(tl.int32))
    return first, last


@triton.jit
def emit(
    segments: tl.tensor,
    first: tl.tensor,
    last: tl.tensor,
    low: tl.tensor,
    value: tl.tensor,
    nonzero: tl.tensor,
    TYPE: tl.constexpr,
    TILE: tl.constexpr,
):
    """`target = source + scale * value` for the rows of a tile, value (TILE,).

    Args:
        nonzero: scalar; if false, a target gets the bits of its source.
    """
    # The one number that leaves all others alone. Its bits, because -0.0 may compile to 0.0.
    nothing = tl.full((), -(2**31), tl.int32).to(tl.float32, bitcast=True)
    for s in range(first, last):
        line = segments + s * FIELDS
        moved = _scale(line) * value
        source, target = tl.load(line + 2), tl.load(line + 3)
        if source != 0:
            moved = _read(line, source, low, TYPE, TILE) + tl.where(nonzero, moved, nothing)
        _write(line, target, low, moved, TYPE, TILE)


@triton.jit
def collect(
    segments: tl.tensor,
    first: tl.tensor,
    last: tl.tensor,
    low: tl.tensor,
    TYPE: tl.constexpr,
    TILE: tl.constexpr,
):
    """`scale * source` for the rows of a tile, (TILE,), zero where no tensor is."""
    found = tl.zeros((TILE,), tl.float32)
    for s in range(first, last):
        line = segments + s * FIELDS
        found += _scale(line) * _read(line, tl.load(line + 2), low, TYPE, TILE)
    return found


@triton.jit
def _scale(line: tl.tensor):
    return tl.load(line + 4).to(tl.int32).to(tl.float32, bitcast=True)


@triton.jit
def _read(line: tl.tensor, base: tl.tensor, low: tl.tensor, TYPE: tl.constexpr, TILE: tl.constexpr):
    """The rows of a tile that are in the tensor at this address, (TILE,), float32; else 0."""
    i = tl.arange(0, TILE)
    address = _address(line, base, low, TYPE)
    if _is_whole(line, address, low, TILE):
        pointer = tl.multiple_of(address.to(tl.pointer_type(TYPE)), ALIGNED)
        x = tl.load(pointer + i)
    else:
        pointer = address.to(tl.pointer_type(TYPE))
        x = tl.load(pointer + i, mask=_inside(line, low, TILE), other=0.0)
    return x.to(tl.float32)


@triton.jit
def _write(
    line: tl.tensor,
    base: tl.tensor,
    low: tl.tensor,
    x: tl.tensor,
    TYPE: tl.constexpr,
    TILE: tl.constexpr,
):
    """Write the rows of a tile that are in the tensor at this address."""
    i = tl.arange(0, TILE)
    address = _address(line, base, low, TYPE)
    if _is_whole(line, address, low, TILE):
        pointer = tl.multiple_of(address.to(tl.pointer_type(TYPE)), ALIGNED)
        tl.store(pointer + i, x.to(TYPE))
    else:
        pointer = address.to(tl.pointer_type(TYPE))
        tl.store(pointer + i, x.to(TYPE), mask=_inside(line, low, TILE))


@triton.jit
def _address(line: tl.tensor, base: tl.tensor, low: tl.tensor, TYPE: tl.constexpr):
    """Of the tile's first row in the tensor at `base`, which may lie before or behind it.

    Rows count from the tile's first: 64 bits only for what all entries share.
    """
    return base + (low - tl.load(line)) * (TYPE.primitive_bitwidth // 8)


@triton.jit
def _is_whole(line: tl.tensor, address: tl.tensor, low: tl.tensor, TILE: tl.constexpr):
    """Whether all of a tile lies in one tensor, at an address that vectors may be read from."""
    inside = (tl.load(line) <= low) & (tl.load(line + 1) >= low + TILE)
    return inside & (address % ALIGNED == 0)


@triton.jit
def _inside(line: tl.tensor, low: tl.tensor, TILE: tl.constexpr):
    start = tl.maximum(tl.load(line) - low, 0).to(tl.int32)
    end = tl.minimum(tl.load(line + 1) - low, TILE).to(tl.int32)
    i = tl.arange(0, TILE)
    return (i >= start) & (i < end)
