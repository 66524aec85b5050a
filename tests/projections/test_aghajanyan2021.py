"""The authors' operator against its definition, written out as matrices."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.linalg import hadamard
from tests.projections.aghajanyan2021 import Aghajanyan2021

from d90.rng import philox
from d90.rng.philox import Stream


def definition(d: int, n: int, seed: int) -> torch.Tensor:
    """Their forward pass as one matrix of shape (n, d)."""
    L = 2 ** math.ceil(math.log2(n)) if n > 1 else 1
    H = torch.tensor(hadamard(L), dtype=torch.float64)
    B = philox.to_signs(philox.words(seed, Stream.FASTFOOD, 0, L), torch.float64).diag()
    G = philox.normals(seed, Stream.DENSE, 0, L, dtype=torch.float64).diag()
    Pi = torch.eye(L, dtype=torch.float64)[philox.permutations(seed, 0, 1, round(math.log2(L)))[0]]
    full = H @ G @ Pi @ H @ B
    norm = torch.sqrt(L * G.square().sum()) * math.sqrt(n / L)
    pad = torch.zeros(L, d, dtype=torch.float64)
    pad[: min(d, L), : min(d, L)] = torch.eye(min(d, L), dtype=torch.float64)
    return (full @ pad)[:n] / norm


@pytest.mark.parametrize(("d", "n"), [(1, 1), (3, 8), (5, 13), (10, 100), (20, 6)])
def test_forward_is_the_definition_and_backward_is_one_length_too_small(d: int, n: int) -> None:
    P = Aghajanyan2021(d, n, 3)
    matrix = definition(d, n, 3)
    z, g = torch.randn(d, dtype=torch.float64), torch.randn(n, dtype=torch.float64)
    torch.testing.assert_close(P.apply(z, 0, n), matrix @ z)
    L = 2 ** math.ceil(math.log2(n)) if n > 1 else 1
    torch.testing.assert_close(P.adjoint(g, 0, n) * L, matrix.T @ g)


def test_columns_are_of_unit_norm_where_the_length_is_a_power_of_two() -> None:
    norms = definition(5, 16, 1).norm(dim=0)
    torch.testing.assert_close(norms, torch.ones(5, dtype=torch.float64))


def test_a_tensor_shorter_than_z_sees_a_prefix_of_it() -> None:
    P = Aghajanyan2021(20, 6, 3)
    z = torch.randn(20)
    cropped = z.clone()
    cropped[8:] = 0
    assert torch.equal(P.apply(z, 0, 6), P.apply(cropped, 0, 6))


def test_the_padded_first_transform_is_the_small_one_tiled() -> None:
    from d90.projections.kernels.hadamard import hadamard as transform

    z = torch.randn(4)
    padded = transform(torch.cat([z, torch.zeros(12)])[None])[0]
    torch.testing.assert_close(padded, transform(z[None])[0].repeat(4))
