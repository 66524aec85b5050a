from __future__ import annotations

import pytest
import torch
from scipy import linalg

from d90.kernels.hadamard import hadamard


@pytest.mark.parametrize("n", [1, 2, 4, 32, 256])
def test_it_is_sylvesters_matrix(n: int) -> None:
    x = torch.randn(3, n, dtype=torch.float64)
    torch.testing.assert_close(hadamard(x), x @ torch.tensor(linalg.hadamard(n), dtype=x.dtype))


def test_twice_is_n() -> None:
    x = torch.randn(2, 64, dtype=torch.float64)
    torch.testing.assert_close(hadamard(hadamard(x)), 64 * x)
