"""What is computed on the device against the reference on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from unittest.mock import patch

import torch
from torch import Tensor

SEED = 2**63 + 12345
"""Of the projections: with the highest bit, which a signed number would lose."""

_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


@contextmanager
def kernel(name: str) -> Iterator[None]:
    """Projections inside run this kernel."""
    with patch.dict("os.environ", {"D90_KERNEL": name}):
        yield


def reference() -> AbstractContextManager[None]:
    """Projections inside run their plain torch reference, the specification."""
    return kernel("reference")


def normal(count: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Normal numbers on the CPU, the same in every call."""
    return torch.randn(count, generator=torch.Generator().manual_seed(seed)).to(dtype)


def different(found: Tensor, expected: Tensor) -> int:
    """How many entries have other bits; 0.0 and -0.0 count as different."""
    found, expected = found.detach().cpu().contiguous(), expected.detach().cpu().contiguous()
    if found.shape != expected.shape or found.dtype != expected.dtype:
        raise ValueError(
            f"{found.dtype} {tuple(found.shape)}, not {expected.dtype} {tuple(expected.shape)}"
        )
    whole = _BITS[found.element_size()]
    return int((found.view(whole) != expected.view(whole)).sum())


def error(found: Tensor, exact: Tensor) -> float:
    """Norm of the difference by the norm of `exact`, in float64."""
    exact = exact.detach().cpu().double()
    return float((found.detach().cpu().double() - exact).norm() / exact.norm())
