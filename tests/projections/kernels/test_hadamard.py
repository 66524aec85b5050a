from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from scipy import linalg
from torch import Tensor

from d90.projections.kernels import hadamard as module
from d90.projections.kernels.hadamard import butterfly, by_products, factor_bits, hadamard

WAYS = pytest.mark.parametrize("way", [butterfly, by_products])
SIZES = [2**bits for bits in range(13)]


def normal(rows: int, n: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(n)
    return torch.randn(rows, n, generator=generator, dtype=torch.float64).to(dtype)


@WAYS
@pytest.mark.parametrize("n", SIZES)
def test_it_is_sylvesters_matrix(way: Callable[[Tensor], Tensor], n: int) -> None:
    x = normal(3, n)
    matrix = torch.tensor(linalg.hadamard(n), dtype=x.dtype)
    torch.testing.assert_close(way(x), x @ matrix)


@WAYS
@pytest.mark.parametrize("n", SIZES)
def test_the_float32_error_is_a_few_roundings(way: Callable[[Tensor], Tensor], n: int) -> None:
    x = normal(max(1, 2**14 // n), n, torch.float32)
    exact = butterfly(x.double())
    # The butterfly rounds once a bit, the products twice a factor.
    bits = n.bit_length() - 1
    roundings = bits if way is butterfly else 2 * len(factor_bits(bits))
    error = (way(x).double() - exact).norm() / exact.norm()
    assert error <= 2**-24 * roundings**0.5


def test_twice_is_n() -> None:
    x = normal(2, 64)
    torch.testing.assert_close(hadamard(hadamard(x)), 64 * x)


def test_the_processor_has_the_butterfly() -> None:
    x = normal(2, 2048, torch.float32)
    assert torch.equal(hadamard(x), butterfly(x))


def test_products_take_any_strides() -> None:
    x = normal(256, 6, torch.float32).t()
    torch.testing.assert_close(by_products(x), by_products(x.contiguous()))


def test_parts_are_exact_in_every_format_of_a_matrix_unit() -> None:
    x = normal(5, 1000, torch.float32) * 2.0 ** torch.arange(-60, 40, 0.1)
    found = module.parts(x)
    assert all(torch.equal(part.bfloat16().float(), part) for part in found)
    assert torch.equal(torch.stack(found).double().sum(0), x.double())


def test_factors_are_few_and_small() -> None:
    for bits in range(32):
        found = factor_bits(bits)
        assert sum(found) == bits and len(found) == -(-bits // 6)
        assert max(found, default=0) - min(found, default=0) <= 1
