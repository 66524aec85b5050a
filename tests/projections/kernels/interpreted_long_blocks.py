"""Fastfood for long blocks against the reference, on the CPU, in Triton's interpreter.

`test_triton.py` runs this file in a process of its own, with TRITON_INTERPRET=1.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from d90.projections import make_projection
from d90.projections.kernels import dispatch
from d90.projections.kernels import triton as kernels
from d90.projections.kernels.base import RowBlock
from d90.projections.kernels.triton import fastfood, long_blocks

SEED = 2**63 + 5


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of 2^8 entries, and batches of 2^11, so that short blocks are long ones."""
    monkeypatch.setattr(long_blocks, "_LOW", 8)
    monkeypatch.setattr(long_blocks, "_BATCH", 2**11)
    monkeypatch.setattr(long_blocks, "_PARTIAL", 2**10)
    monkeypatch.setenv("D90_KERNEL", "reference")
    torch.manual_seed(0)


def bits(tensor: Tensor) -> Tensor:
    return tensor.view(torch.int32 if tensor.dtype == torch.float32 else torch.int16)


# Blocks of 2^9 to 2^12, up to three batches: the last is longer than a batch.
sizes = pytest.mark.parametrize(("d", "D"), [(300, 2200), (1000, 3001), (3000, 4200)])


@sizes
def test_apply_has_the_bits_of_the_reference(d: int, D: int) -> None:
    P = make_projection("fastfood", d=d, D=D, seed=SEED)
    z, found = torch.randn(d), torch.full((D,), 7.0)
    rows = [RowBlock(3, None, found[3 : D // 2]), RowBlock(D // 2, None, found[D // 2 : -2])]
    long_blocks.apply(d, D, SEED, z, rows)
    assert torch.equal(found[3:-2], P.apply(z, 3, D - 2))
    assert torch.equal(found[:3], torch.full((3,), 7.0))
    assert torch.equal(found[-2:], torch.full((2,), 7.0))


def test_tensors_of_any_dtype_and_blocks_without_a_tensor() -> None:
    P = make_projection("fastfood", d=600, D=5000, seed=SEED)
    starts, lengths = [5, 300, 600, 3600, 3700], [200, 250, 0, 100, 900]
    dtypes = [torch.float32, torch.float16, torch.float16, torch.float16, torch.float32]
    scales = [1.0, -2.5, 1.0, 0.01, 3.0]
    theta_0 = [torch.randn(n).to(dtype) for n, dtype in zip(lengths, dtypes, strict=True)]
    for z in (torch.randn(600), torch.zeros(600)):
        expected = P.add_projected(z, theta_0, starts, scales)
        found = [torch.empty_like(tensor) for tensor in theta_0]
        rows = map(RowBlock, starts, theta_0, found, scales)
        long_blocks.apply(P.d, P.D, SEED, z, list(rows))
        for tensor, reference in zip(found, expected, strict=True):
            assert torch.equal(bits(tensor), bits(reference))


@sizes
def test_the_adjoint_is_as_good_as_the_reference(d: int, D: int) -> None:
    P = make_projection("fastfood", d=d, D=D, seed=SEED)
    g, found = torch.randn(D - 5), torch.full((d,), 7.0)
    # Two tensors, between which whole blocks have no gradient.
    parts, starts = [g[: D // 6], g[D // 2 :]], [3, D // 2 + 3]
    rows = [RowBlock(a, part, None, 2.0) for a, part in zip(starts, parts, strict=True)]
    long_blocks.adjoint(d, D, SEED, found, rows)
    exact = P.pull_back([part.double() for part in parts], starts, [2.0, 2.0])
    reference = P.pull_back(parts, starts, [2.0, 2.0])
    assert (found - exact).norm() <= 2 * (reference - exact).norm()


def test_a_real_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shortest that is too long for one program, through the choice of kernels."""
    monkeypatch.undo()
    P = make_projection("fastfood", d=2**14 + 1, D=2**15 + 100, seed=SEED)
    z, g = torch.randn(P.d), torch.randn(P.D)
    monkeypatch.setenv("D90_KERNEL", "triton")
    assert dispatch.kernel("fastfood", P.d, z) is kernels
    rows, sums = P.apply(z, 0, P.D), P.adjoint(g, 0, P.D)
    assert torch.equal(rows, P._apply(z, 0, P.D))
    exact = P._adjoint(g.double(), 0, P.D)
    assert (sums - exact).norm() <= 2 * (P._adjoint(g, 0, P.D) - exact).norm()


def test_which_module_serves_which_block() -> None:
    assert kernels._kernels("fastfood", 2**14) is fastfood
    assert kernels._kernels("fastfood", 2**14 + 1) is long_blocks
    assert kernels.supports("fastfood", 2**21)
    assert not kernels.supports("fastfood", 2**21 + 1)


@pytest.mark.parametrize("d", [2**14 + 1, 2**20, 2**21])
def test_scratch_memory_is_bounded(d: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    bits = (d - 1).bit_length()
    scratch = long_blocks._scratch(bits, torch.empty(0, device="meta"))
    partial = max(long_blocks._PARTIAL, 1 << bits) * 4
    assert sum(tensor.numel() * tensor.itemsize for tensor in scratch) + partial <= 32 * 2**20
