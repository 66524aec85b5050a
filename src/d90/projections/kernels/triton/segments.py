"""Rows of P that belong to several tensors, read and written by one launch of a Triton kernel.

A table of int64 numbers on the device, a line a tensor: its first row, the row behind its last,
the addresses of source (0 where there is none) and target, and the bits of its float32 scale.
"""

# Triton's language only looks like Python: the compiler checks its types, in the tests.
# pyright: reportArgumentType=false, reportCallIssue=false, reportInvalidTypeForm=false
# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false, reportAttributeAccessIssue=false
from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

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


_TABLES = 128
"""Tables in the cache: a model has one for each direction, group and type, or a few of them where
the allocator gives gradients other addresses."""

_Line: TypeAlias = tuple[int, int, int, int, float, torch.dtype]
"""First row, number of rows, addresses of source and target, scale and dtype of a tensor."""


class Launch(NamedTuple):
    """The tiles that the tensors of one type touch.

    Attributes:
        table: of those tensors.
        first: the first tile.
        tiles: how many.
        weights: how many those tensors have.
        options: constants of every kernel, and how to compile it.
    """

    table: Tensor
    first: int
    tiles: int
    weights: int
    options: dict[str, Any]


def launches(
    rows: Sequence[RowBlock], D: int, tile: int, device: torch.device
) -> tuple[Launch, ...]:
    """One launch for each type among the tensors.

    Raises:
        ValueError: rows are not in order, or outside 0..D.
    """
    lines: list[_Line] = []
    for start, source, target, scale in rows:
        tensor = target if source is None else source
        assert tensor is not None
        read = 0 if source is None else source.data_ptr()
        write = 0 if target is None else target.data_ptr()
        lines.append((start, tensor.numel(), read, write, scale, tensor.dtype))
    # A table is written by the stream that reads it.
    stream = torch.cuda.current_stream(device).cuda_stream if device.type == "cuda" else 0
    return _launches(tuple(lines), D, tile, device, stream)


@lru_cache(_TABLES)
def _launches(
    lines: tuple[_Line, ...], D: int, tile: int, device: torch.device, stream: int
) -> tuple[Launch, ...]:
    """All that a table holds is in the key, so memory may be freed and its addresses used again."""
    ends = [0, *(start + count for start, count, *_ in lines)]
    starts = [*(start for start, *_ in lines), D]
    if any(start < end for end, start in zip(ends, starts, strict=True)):
        raise ValueError(f"rows out of order or out of range for D = {D}")
    found = []
    for dtype, kind in _TYPES.items():
        own = [line for line in lines if line[-1] == dtype and line[1]]
        if own:
            table = _table(own, device)
            first, last = own[0][0] // tile, -(-(own[-1][0] + own[-1][1]) // tile)
            # A fused multiply-add rounds once where the reference rounds twice.
            constants = {"TYPE": kind, "COUNT": len(table), "TILE": tile, "enable_fp_fusion": False}
            weights = sum(count for _, count, *_ in own)
            found.append(Launch(table, first, last - first, weights, constants))
    return tuple(found)


def _table(lines: Sequence[_Line], device: torch.device) -> Tensor:
    """Lines of no rows are added up to a power of two: a tile reads all of them at once."""
    table = [
        [start, start + count, source, target, _bits(scale)]
        for start, count, source, target, scale, _ in lines
    ]
    missing = max(_FEWEST_LINES, triton.next_power_of_2(len(table))) - len(table)
    table += missing * [[_NOWHERE, _NOWHERE, 0, 0, 0]]
    # From pinned memory the copy does not wait for the device.
    pinned = torch.tensor(table, dtype=torch.int64, pin_memory=device.type == "cuda")
    return pinned.to(device, non_blocking=True)


def _bits(scale: float) -> int:
    (bits,) = struct.unpack("<i", struct.pack("<f", scale))
    return bits


@triton.jit
def overlap(segments: tl.tensor, low: tl.tensor, SPAN: tl.constexpr, COUNT: tl.constexpr):
    """Which lines have some of the SPAN rows from `low` on: `first` and `last`, not included."""
    line = segments + tl.arange(0, COUNT) * FIELDS
    first = tl.sum((tl.load(line + 1) <= low).to(tl.int32))
    last = tl.sum((tl.load(line) < low + SPAN).to(tl.int32))
    return first, last


@triton.jit
def emit(
    segments: tl.tensor,
    first: tl.tensor,
    last: tl.tensor,
    low: tl.tensor,
    at: tl.tensor,
    value: tl.tensor,
    nonzero: tl.tensor,
    TYPE: tl.constexpr,
    SPAN: tl.constexpr,
):
    """`target = source + scale * value` for some of the SPAN rows from `low` on.

    Args:
        at: which of the rows, int32.
        value: shaped like `at`.
        nonzero: scalar; if false, a target gets the bits of its source.
    """
    # The one number that leaves all others alone. Its bits, because -0.0 may compile to 0.0.
    nothing = tl.full((), -(2**31), tl.int32).to(tl.float32, bitcast=True)
    for s in range(first, last):
        line = segments + s * FIELDS
        moved = _scale(line) * value
        source, target = tl.load(line + 2), tl.load(line + 3)
        if source != 0:
            moved = _read(line, source, low, at, TYPE, SPAN) + tl.where(nonzero, moved, nothing)
        _write(line, target, low, at, moved, TYPE, SPAN)


@triton.jit
def collect(
    segments: tl.tensor,
    first: tl.tensor,
    last: tl.tensor,
    low: tl.tensor,
    at: tl.tensor,
    TYPE: tl.constexpr,
    SPAN: tl.constexpr,
):
    """`scale * source` for the rows `at` of SPAN from `low` on, zero where no tensor is."""
    found = tl.zeros(at.shape, tl.float32)
    for s in range(first, last):
        line = segments + s * FIELDS
        found += _scale(line) * _read(line, tl.load(line + 2), low, at, TYPE, SPAN)
    return found


@triton.jit
def _scale(line: tl.tensor):
    return tl.load(line + 4).to(tl.int32).to(tl.float32, bitcast=True)


@triton.jit
def _read(
    line: tl.tensor,
    base: tl.tensor,
    low: tl.tensor,
    at: tl.tensor,
    TYPE: tl.constexpr,
    SPAN: tl.constexpr,
):
    """Those of the rows that are in the tensor at this address, float32; else 0."""
    address = _address(line, base, low, TYPE)
    if _is_whole(line, address, low, SPAN):
        pointer = tl.multiple_of(address.to(tl.pointer_type(TYPE)), ALIGNED)
        x = tl.load(pointer + at)
    else:
        pointer = address.to(tl.pointer_type(TYPE))
        x = tl.load(pointer + at, mask=_inside(line, low, at, SPAN), other=0.0)
    return x.to(tl.float32)


@triton.jit
def _write(
    line: tl.tensor,
    base: tl.tensor,
    low: tl.tensor,
    at: tl.tensor,
    x: tl.tensor,
    TYPE: tl.constexpr,
    SPAN: tl.constexpr,
):
    """Write those of the rows that are in the tensor at this address."""
    address = _address(line, base, low, TYPE)
    if _is_whole(line, address, low, SPAN):
        pointer = tl.multiple_of(address.to(tl.pointer_type(TYPE)), ALIGNED)
        tl.store(pointer + at, x.to(TYPE))
    else:
        pointer = address.to(tl.pointer_type(TYPE))
        tl.store(pointer + at, x.to(TYPE), mask=_inside(line, low, at, SPAN))


@triton.jit
def _address(line: tl.tensor, base: tl.tensor, low: tl.tensor, TYPE: tl.constexpr):
    """Of row `low` in the tensor at `base`, which may lie before or behind it.

    Rows count from that row: 64 bits only for what all entries share.
    """
    return base + (low - tl.load(line)) * (TYPE.primitive_bitwidth // 8)


@triton.jit
def _is_whole(line: tl.tensor, address: tl.tensor, low: tl.tensor, SPAN: tl.constexpr):
    """Whether all SPAN rows lie in one tensor, at an address that vectors may be read from."""
    inside = (tl.load(line) <= low) & (tl.load(line + 1) >= low + SPAN)
    return inside & (address % ALIGNED == 0)


@triton.jit
def _inside(line: tl.tensor, low: tl.tensor, at: tl.tensor, SPAN: tl.constexpr):
    start = tl.maximum(tl.load(line) - low, 0).to(tl.int32)
    end = tl.minimum(tl.load(line + 1) - low, SPAN).to(tl.int32)
    return (at >= start) & (at < end)
