"""Tensors that between them take every path of the kernels, and memory around them to watch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.gpu.compare import normal
from benchmarks.gpu.part import Setup

KERNELS = ("onehot", "fastfood")
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_LINE = 64
"""Numbers: a multiple of every vector access."""


@dataclass(frozen=True)
class Shapes:
    """Rows of P that belong to tensors, with gaps between them.

    Attributes:
        starts, lengths: of the tensors; some hold whole aligned tiles, some less than a row.
        scales: s of each.
        D: number of rows.
        dims: values of d.
    """

    starts: tuple[int, ...]
    lengths: tuple[int, ...]
    scales: tuple[float, ...]
    D: int
    dims: tuple[int, ...]

    def values(self, dtype: torch.dtype) -> list[Tensor]:
        """Normal numbers for each tensor, on the CPU."""
        return [normal(length, i, dtype) for i, length in enumerate(self.lengths)]


FULL = Shapes(
    starts=(0, 512, 12_801, 16_384, 57_349, 65_536),
    lengths=(501, 12_288, 1, 40_961, 7_777, 70_001),
    scales=(1.0, -2.5, 1.0, 0.01, 1e3, 0.5),
    D=140_000,
    dims=(1, 3, 16, 130, 1_000, 3_000, 16_384),
)
TINY = Shapes(
    starts=(0, 512, 1_700, 2_040),
    lengths=(501, 1_150, 1, 2_100),
    scales=(1.0, -2.5, 1.0, 0.01),
    D=4_200,
    dims=(1, 300),
)


def shapes(setup: Setup) -> Shapes:
    """Those of the device."""
    return setup.size(FULL, TINY)


@dataclass(frozen=True)
class Memory:
    """Tensors in one allocation with a value that no sum has before, between and behind them.

    Attributes:
        whole: the allocation.
        tensors: views of it.
    """

    whole: Tensor
    tensors: list[Tensor]

    @classmethod
    def around(cls, lengths: Sequence[int], dtype: torch.dtype, device: str, shift: int) -> Memory:
        """NaN everywhere; tensors begin `shift` numbers behind an aligned address."""
        offsets, end = [], _LINE
        for length in lengths:
            offsets.append(end + shift)
            end += (length // _LINE + 2) * _LINE
        whole = torch.full((end + _LINE,), math.nan, dtype=dtype, device=device)
        pairs = zip(offsets, lengths, strict=True)
        return cls(whole, [whole[offset : offset + length] for offset, length in pairs])

    def touched(self) -> int:
        """How many numbers outside of the tensors are no longer NaN."""
        rest = self.whole.isfinite().sum() - sum(t.isfinite().sum() for t in self.tensors)
        return int(rest)
