"""The Triton kernels against the reference, on the CPU, in Triton's interpreter.

`test_triton.py` runs this file in a process of its own, with TRITON_INTERPRET=1: that must be set
before triton is imported.
"""

# Triton's language only looks like Python.
# pyright: reportArgumentType=false
from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
import triton
import triton.language as tl
from torch import Tensor

from d90.projections import PROJECTIONS, Projection, make_projection
from d90.projections.kernels import dispatch
from d90.projections.kernels import triton as kernels
from d90.projections.kernels.base import RowBlock
from d90.projections.kernels.triton.fastfood import permuted, permuted_back, signed, words_of_tile
from d90.projections.kernels.triton.onehot import columns
from d90.projections.kernels.triton.random import normals, philox4x32, row_words, tables
from d90.rng import philox
from d90.rng.philox import Stream

CPU = torch.device("cpu")
SEEDS = [0, 2**31, 2**63 + 12345, 2**64 - 1]
# One dimension, blocks below and above a square, several blocks a tile, several tiles.
SIZES = [(1, 1), (3, 50), (16, 4300), (130, 300), (3000, 5000)]
TILE = 1024
# The second is behind the 2^32-nd counter of every stream.
TILES = [3, 2**30 + 5]

names = pytest.mark.parametrize("name", ["fastfood", "onehot"])
sizes = pytest.mark.parametrize(("d", "D"), SIZES)


@pytest.fixture(autouse=True)
def _triton_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("D90_KERNEL", "triton")
    torch.manual_seed(0)


@triton.jit
def draw_words(out, seed, counter, STREAM: tl.constexpr):
    at = tl.arange(0, 64)
    w0, w1, w2, w3 = philox4x32(seed, STREAM, counter + at)
    tl.store(out + at, w0)
    tl.store(out + 64 + at, w1)
    tl.store(out + 128 + at, w2)
    tl.store(out + 192 + at, w3)


@triton.jit
def draw_rows(out, seed, low, STREAM: tl.constexpr, COUNT: tl.constexpr):
    at = tl.arange(0, COUNT)
    first, second = row_words(seed, STREAM, low + at)
    tl.store(out + at, first)
    tl.store(out + COUNT + at, second)


@triton.jit
def draw_normals(out, seed, low, lines, STREAM: tl.constexpr, T: tl.constexpr, TILE: tl.constexpr):
    tl.store(out + tl.arange(0, TILE), normals(seed, STREAM, low, lines, T, TILE))


@triton.jit
def draw_signs(out, seed, low, TILE: tl.constexpr):
    one = tl.full((TILE,), 1.0, tl.float32)
    first, _ = words_of_tile(seed, low, TILE)
    tl.store(out + tl.arange(0, TILE), signed(one, first, TILE))


@triton.jit
def draw_columns(out, seed, low, d, orders, TILE: tl.constexpr):
    column, _ = columns(seed, low, d, orders, TILE)
    tl.store(out + tl.arange(0, TILE), tl.reshape(column, (TILE,)))


@triton.jit
def permute(out, back, seed, low, orders, inverses, BITS: tl.constexpr, TILE: tl.constexpr):
    at = tl.arange(0, TILE)
    one, two = words_of_tile(seed, low, TILE)
    x = permuted(at, seed, low, one, two, orders, BITS, TILE)
    tl.store(out + at, x)
    tl.store(back + at, permuted_back(x, seed, low, one, two, inverses, BITS, TILE))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("counter", [0, 2**32 - 32, 2**40])
def test_words_have_the_bits_of_the_reference(seed: int, counter: int) -> None:
    found = torch.empty(4, 4, 16, dtype=torch.int32)
    draw_words[(1,)](found, seed, counter, STREAM=int(Stream.DENSE))
    expected = philox.words(seed, Stream.DENSE, 4 * counter, 4 * counter + 256).view(4, 4, 16)
    assert torch.equal(found.transpose(0, 1).long() & 0xFFFFFFFF, expected)


@pytest.mark.parametrize("row", [0, 24, 2**34])
def test_rows_have_the_bits_of_the_reference(row: int) -> None:
    found = torch.empty(2, 64, dtype=torch.int32)
    draw_rows[(1,)](found, SEEDS[2], row, STREAM=int(Stream.ONEHOT), COUNT=64)
    expected = torch.stack(philox.rows(SEEDS[2], Stream.ONEHOT, row, row + 64))
    assert torch.equal(found.long() & 0xFFFFFFFF, expected)


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("transposed", [False, True])
def test_normals_have_the_bits_of_the_reference(tile: int, transposed: bool) -> None:
    low, found = tile * 65536, torch.empty(1, 65536)
    draw_normals[(1,)](
        found, 7, low, tables(CPU)[0], STREAM=int(Stream.FASTFOOD), T=transposed, TILE=65536
    )
    expected = philox.normals(7, Stream.FASTFOOD, low, low + 65536)[None]
    assert torch.equal(found, philox.transpose_squares(expected) if transposed else expected)


@pytest.mark.parametrize("tile", TILES)
def test_signs_have_the_bits_of_the_reference(tile: int) -> None:
    low, found = tile * TILE, torch.empty(TILE)
    draw_signs[(1,)](found, 7, low, TILE=TILE)
    word, _ = philox.rows(7, Stream.FASTFOOD_ROWS, low // 16, (low + TILE) // 16)
    assert torch.equal(found, philox.row_signs(word).view(-1))


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("d", [1, 1000, 2**30])
def test_columns_have_the_bits_of_the_reference(d: int, tile: int) -> None:
    low, found = tile * TILE, torch.empty(TILE, dtype=torch.int32)
    draw_columns[(1,)](found, 7, low, d, tables(CPU)[1], TILE=TILE)
    word, base = philox.rows(7, Stream.ONEHOT, low // 16, (low + TILE) // 16)
    expected = philox.to_integers(base, d)[:, None] + philox.row_permutations(word)
    assert torch.equal(found.long(), expected.view(-1))


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("bits", [0, 1, 2, 4, 7, 8, 12, 14])
def test_permutations_have_the_bits_of_the_reference(bits: int, tile: int) -> None:
    size = max(TILE, 1 << bits)
    found, back = torch.empty(2, size, dtype=torch.int32)
    _, orders, inverses = tables(CPU)
    permute[(1,)](found, back, 7, tile * size, orders, inverses, BITS=bits, TILE=size)
    blocks = size >> bits
    places = philox.permutations(7, tile * blocks, (tile + 1) * blocks, bits)
    assert torch.equal(found.view(blocks, -1), places + (torch.arange(blocks) << bits)[:, None])
    assert torch.equal(back, torch.arange(size))


def error(found: Tensor, exact: Tensor) -> float:
    return float((found.double() - exact).norm())


@names
@sizes
def test_as_good_as_the_reference(name: str, d: int, D: int) -> None:
    P = make_projection(name, d=d, D=D, seed=2**63 + d)
    z, g = torch.randn(d), torch.randn(D)
    # Where the reference happens to be exact, a few roundings of the input's size are left.
    floor = 4 * torch.finfo(torch.float32).eps * math.sqrt(d / D)
    exact, reference = P._apply(z.double(), 0, D), P._apply(z, 0, D)
    assert error(P.apply(z, 0, D), exact) <= 2 * error(reference, exact) + floor * z.norm()
    exact, reference = P._adjoint(g.double(), 0, D), P._adjoint(g, 0, D)
    assert error(P.adjoint(g, 0, D), exact) <= 2 * error(reference, exact) + floor * g.norm()


@names
@sizes
def test_the_adjoint_is_the_true_adjoint(name: str, d: int, D: int) -> None:
    P = make_projection(name, d=d, D=D, seed=4)
    z, g = torch.randn(d), torch.randn(D)
    left, right = P.apply(z, 0, D) @ g, z @ P.adjoint(g, 0, D)
    assert abs(left - right) < 1e-5 * z.norm() * g.norm()


@names
@sizes
def test_a_slice_has_the_bits_of_the_whole(name: str, d: int, D: int) -> None:
    P = make_projection(name, d=d, D=D, seed=4)
    z = torch.randn(d)
    whole = P.apply(z, 0, D)
    for start, stop in ((D // 3, D), (D // 2, D // 2 + 1), (D, D)):
        assert torch.equal(P.apply(z, start, stop), whole[start:stop])


def pieces(D: int) -> tuple[list[int], list[Tensor], list[float]]:
    """Tensors with gaps between them, of both types, one without numbers."""
    starts, scales = [2, D // 5, D // 2, D // 2, D - 40], [1.0, -2.5, 1.0, 0.01, 1e3]
    lengths = [7, D // 5, 0, D // 4, 40]
    tensors = [torch.randn(length) for length in lengths]
    tensors[1], tensors[4] = tensors[1].bfloat16(), tensors[4].view(4, 10).bfloat16()
    return starts, tensors, scales


@names
@pytest.mark.parametrize("d", [5, 300])
def test_several_tensors_at_once(name: str, d: int, monkeypatch: pytest.MonkeyPatch) -> None:
    P = make_projection(name, d=d, D=5001, seed=2)
    starts, tensors, scales = pieces(P.D)
    z = torch.randn(d)
    found = P.add_projected(z, tensors, starts, scales)
    gradient = P.pull_back(tensors, starts, scales)
    monkeypatch.setenv("D90_KERNEL", "reference")
    for tensor, expected in zip(found, P.add_projected(z, tensors, starts, scales), strict=True):
        assert tensor.dtype == expected.dtype
        # The interpreter cuts bfloat16 off where a GPU rounds.
        last = 2**-7 if tensor.dtype == torch.bfloat16 else 2e-6
        torch.testing.assert_close(tensor, expected, atol=2e-4, rtol=last)
    wide = [tensor.double() for tensor in tensors]
    exact = P.pull_back(wide, starts, scales)
    assert error(gradient, exact) <= 1e-6 * exact.norm()


@names
@pytest.mark.parametrize("d", [5, 300])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_theta_at_zero_is_theta_0_bit_for_bit(name: str, d: int, dtype: torch.dtype) -> None:
    P = make_projection(name, d=d, D=5000, seed=10)
    # The interpreter turns subnormal bfloat16 into zero, which a GPU does not.
    tiny = torch.finfo(dtype).smallest_normal / (1 if dtype == torch.bfloat16 else 2)
    theta_0 = torch.tensor([0.0, -0.0, tiny, -tiny, 1 / 3, -3.0], dtype=dtype).repeat(500)
    bits = torch.int32 if dtype == torch.float32 else torch.int16
    for z in (torch.zeros(d), -torch.zeros(d)):
        (theta,) = P.add_projected(z, [theta_0], [17], [-2.0])
        assert torch.equal(theta.view(bits), theta_0.view(bits))


@names
def test_a_step_of_zero_is_added_where_z_is_not_zero(name: str) -> None:
    """-0.0 + 0.0 is 0.0, unless all of z is zero."""
    P = make_projection(name, d=300, D=5000, seed=10)
    z = torch.zeros(300)
    z[5] = 1e-20
    theta_0 = torch.full((5000,), -0.0)
    (theta,) = P.add_projected(z, [theta_0], [0], [2.0])
    expected = -0.0 + 2 * P.apply(z, 0, P.D)
    assert torch.equal(theta.view(torch.int32), expected.view(torch.int32))
    assert name != "onehot" or bool(((theta == 0) & ~theta.signbit()).any())


@names
def test_rows_outside_the_tensors_are_not_written(name: str) -> None:
    P = make_projection(name, d=300, D=5000, seed=1)
    memory = torch.full((5000,), 7.0)
    P.add_projected(torch.randn(300), [torch.zeros(501)], [701], [1.0], out=[memory[701:1202]])
    assert torch.equal(memory[:701], torch.full((701,), 7.0))
    assert torch.equal(memory[1202:], torch.full((3798,), 7.0))


@names
def test_sums_have_the_same_bits_every_time(name: str) -> None:
    P = make_projection(name, d=100, D=9000, seed=1)
    g = torch.randn(P.D)
    assert torch.equal(P.adjoint(g, 0, P.D), P.adjoint(g, 0, P.D))


def test_whole_sums_have_no_order() -> None:
    """The bits of the one-hot gradient do not depend on how weights are cut into tensors."""
    P = make_projection("onehot", d=100, D=20_000, seed=1)
    g = torch.randn(P.D)
    cuts = [0, 17, 5000, 5001, 20_000]
    parts = [g[low:high] for low, high in pairwise(cuts)]
    assert torch.equal(P.pull_back(parts, cuts[:-1], [1.0] * 4), P.adjoint(g, 0, P.D))


@names
@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_gradients_of_any_size(name: str, size: float) -> None:
    P = make_projection(name, d=50, D=5000, seed=1)
    g = torch.randn(P.D) * size
    exact = P._adjoint(g.double(), 0, P.D)
    assert error(P.adjoint(g, 0, P.D), exact) <= 1e-6 * exact.norm()


@names
def test_gradients_of_zero(name: str) -> None:
    P = make_projection(name, d=50, D=5000, seed=1)
    assert torch.equal(P.adjoint(torch.zeros(P.D), 0, P.D), torch.zeros(P.d))


@names
@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_what_is_not_finite_is_seen(name: str, value: float) -> None:
    P = make_projection(name, d=50, D=5000, seed=1)
    g = torch.zeros(P.D)
    g[1234] = value
    assert not P.adjoint(g, 0, P.D).isfinite().all()


def test_rows_out_of_order_are_refused() -> None:
    out = torch.empty(10)
    for rows in ([RowBlock(95, None, out)], [RowBlock(5, None, out), RowBlock(0, None, out)]):
        with pytest.raises(ValueError, match="out of order or out of range"):
            kernels.apply("onehot", 3, 100, 0, torch.ones(3), rows)


def test_the_reference_serves_the_rest() -> None:
    z = torch.ones(3)
    for name in sorted(PROJECTIONS):
        kernel = dispatch.kernel(name, 20_000, z)
        assert (kernel is kernels) == (name in ("fastfood", "onehot"))
        assert dispatch.kernel(name, 5, z.double()) is None
    assert dispatch.kernel("fastfood", 2**21, z) is kernels
    assert dispatch.kernel("fastfood", 2**21 + 1, z) is None
    dense: Projection = make_projection("dense", d=3, D=40)
    assert torch.equal(dense.apply(z[:3], 0, 40), dense._apply(z[:3], 0, 40))
