"""Part 2: random numbers on the device have the bits of those on the CPU."""

# Triton's language only looks like Python.
# pyright: reportArgumentType=false, reportCallIssue=false, reportInvalidTypeForm=false
from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import triton
import triton.language as tl
from torch import Tensor

from benchmarks.gpu.compare import SEED, different
from benchmarks.gpu.part import Result, Setup, Value, check
from d90.projections.kernels import dispatch
from d90.projections.kernels.triton.fastfood import permuted, permuted_back, signed, words_of_tile
from d90.projections.kernels.triton.onehot import columns
from d90.projections.kernels.triton.random import normals, philox4x32, row_words, tables
from d90.rng import philox
from d90.rng.philox import Stream

SEEDS = (0, 7, 2**31, SEED, 2**64 - 1)
TILES = (0, 3, 2**30 + 5)
"""The last is behind the 2^32-nd counter of every stream."""

TILE = 1024
BITS = (0, 1, 4, 7, 8, 10, 14)
DIMENSIONS = (1, 3, 1000, 16_384, 2**30)


# Types as in the kernels: untyped, a 0 is 32 bits wide and a 1 becomes a constant.


@triton.jit(do_not_specialize=["seed", "counter"])
def draw_words(out, seed: tl.uint64, counter: tl.int64, STREAM: tl.constexpr):
    at = tl.arange(0, 64)
    w0, w1, w2, w3 = philox4x32(seed, STREAM, counter + at)
    tl.store(out + at, w0)
    tl.store(out + 64 + at, w1)
    tl.store(out + 128 + at, w2)
    tl.store(out + 192 + at, w3)


@triton.jit(do_not_specialize=["seed", "row"])
def draw_rows(out, seed: tl.uint64, row: tl.int64, STREAM: tl.constexpr, COUNT: tl.constexpr):
    at = tl.arange(0, COUNT)
    first, second = row_words(seed, STREAM, row + at)
    tl.store(out + at, first)
    tl.store(out + COUNT + at, second)


@triton.jit(do_not_specialize=["seed", "low"])
def draw_normals(
    out,
    seed: tl.uint64,
    low: tl.int64,
    lines,
    STREAM: tl.constexpr,
    T: tl.constexpr,
    TILE: tl.constexpr,
):
    at = tl.program_id(0) * TILE
    x = normals(seed, STREAM, low + at, lines, T, TILE)
    tl.store(out + at + tl.arange(0, TILE), x)


@triton.jit(do_not_specialize=["seed", "low"])
def draw_signs(out, seed: tl.uint64, low: tl.int64, TILE: tl.constexpr):
    one = tl.full((TILE,), 1.0, tl.float32)
    first, _ = words_of_tile(seed, low, TILE)
    tl.store(out + tl.arange(0, TILE), signed(one, first, TILE))


@triton.jit(do_not_specialize=["seed", "low", "d"])
def draw_columns(out, seed: tl.uint64, low: tl.int64, d: tl.int32, orders, TILE: tl.constexpr):
    column, _ = columns(seed, low, d, orders, TILE)
    tl.store(out + tl.arange(0, TILE), tl.reshape(column, (TILE,)))


@triton.jit(do_not_specialize=["seed", "low"])
def permute(
    out,
    back,
    seed: tl.uint64,
    low: tl.int64,
    orders,
    inverses,
    BITS: tl.constexpr,
    TILE: tl.constexpr,
):
    at = tl.arange(0, TILE)
    one, two = words_of_tile(seed, low, TILE)
    x = permuted(at, seed, low, one, two, orders, BITS, TILE)
    tl.store(out + at, x)
    tl.store(back + at, permuted_back(x, seed, low, one, two, inverses, BITS, TILE))


def check_bits(setup: Setup) -> Iterator[Result]:
    """Words, rows, normals, signs, columns and permutations, by Triton and by torch."""
    device = torch.device(setup.device, 0 if setup.device == "cuda" else None)
    yield check("kernels", "triton", lambda: _chosen(device))
    checks: dict[str, Callable[[torch.device], Iterator[tuple[Tensor, Tensor]]]] = {
        "words": _words,
        "rows": _rows,
        "normals": _normals,
        "signs": _signs,
        "columns": _columns,
        "permutations": _permutations,
        "by torch": _by_torch,
    }
    for name, pairs in checks.items():
        yield check(name, "bitwise", lambda pairs=pairs: _compare(pairs(device)))


def _chosen(device: torch.device) -> tuple[bool, Value]:
    name = dispatch.select_kernel(torch.ones(3, device=device))
    return name == "triton", name


def _compare(pairs: Iterator[tuple[Tensor, Tensor]]) -> tuple[bool, Value]:
    entries = wrong = 0
    for found, expected in pairs:
        entries += expected.numel()
        wrong += different(found.to(expected.dtype), expected)
    return wrong == 0, {"entries": entries, "different": wrong}


def _unsigned(word: Tensor) -> Tensor:
    return word.cpu().long() & 0xFFFFFFFF


def _words(device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    for seed in SEEDS:
        for counter in (0, 2**32 - 32, 2**40):
            found = torch.empty(4, 4, 16, dtype=torch.int32, device=device)
            draw_words[(1,)](found, seed, counter, STREAM=int(Stream.DENSE))
            expected = philox.words(seed, Stream.DENSE, 4 * counter, 4 * counter + 256)
            yield _unsigned(found.transpose(0, 1)), expected.view(4, 4, 16)


def _rows(device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    for row in (0, 24, 2**34):
        found = torch.empty(2, 64, dtype=torch.int32, device=device)
        draw_rows[(1,)](found, SEED, row, STREAM=int(Stream.ONEHOT), COUNT=64)
        yield _unsigned(found), torch.stack(philox.rows(SEED, Stream.ONEHOT, row, row + 64))


def _normals(device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """On a GPU so many that most of the 2^15 absolute values occur."""
    lines, stream = tables(device)[0], Stream.FASTFOOD
    for tile in TILES:
        for transposed in (False, True):
            low, size = tile * TILE, TILE if device.type == "cpu" else 2**16
            found = torch.empty(1, size, device=device)
            grid = (size // TILE,)
            draw_normals[grid](found, SEED, low, lines, STREAM=int(stream), T=transposed, TILE=TILE)
            expected = philox.normals(SEED, stream, low, low + size)[None]
            yield found, philox.transpose_squares(expected) if transposed else expected


def _signs(device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    for tile in TILES:
        low, found = tile * TILE, torch.empty(TILE, device=device)
        draw_signs[(1,)](found, SEED, low, TILE=TILE)
        word, _ = philox.rows(SEED, Stream.FASTFOOD_ROWS, low // 16, (low + TILE) // 16)
        yield found, philox.row_signs(word).view(-1)


def _columns(device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    orders = tables(device)[1]
    for d in DIMENSIONS:
        for tile in TILES:
            low, found = tile * TILE, torch.empty(TILE, dtype=torch.int32, device=device)
            draw_columns[(1,)](found, SEED, low, d, orders, TILE=TILE)
            word, base = philox.rows(SEED, Stream.ONEHOT, low // 16, (low + TILE) // 16)
            expected = philox.to_integers(base, d)[:, None] + philox.row_permutations(word)
            yield found, expected.view(-1)


def _permutations(device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    _, orders, inverses = tables(device)
    for bits in BITS[:: 2 if device.type == "cpu" else 1]:
        for tile in TILES:
            size = max(TILE, 1 << bits)
            found = torch.empty(size, dtype=torch.int32, device=device)
            back = torch.empty_like(found)
            where = (SEED, tile * size, orders, inverses)
            permute[(1,)](found, back, *where, BITS=bits, TILE=size, num_warps=max(4, size // 1024))
            blocks = size >> bits
            places = philox.permutations(SEED, tile * blocks, (tile + 1) * blocks, bits)
            yield found.view(blocks, -1), places + (torch.arange(blocks) << bits)[:, None]
            yield back, torch.arange(size)


def _by_torch(device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """The functions of `d90.rng.philox`, which dense and sparse draw with."""
    for low in (0, 2**33 + 7):
        where = (SEED, Stream.DENSE, low, low + 5001)
        yield philox.words(*where, device=device), philox.words(*where)
        yield philox.normals(*where, device=device), philox.normals(*where)
    for bits in (3, 9):
        places = (SEED, 5, 9, bits)
        yield philox.permutations(*places, device=device), philox.permutations(*places)
