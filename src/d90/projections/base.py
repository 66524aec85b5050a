"""The contract of every projection P : R^d -> R^D."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from d90.errors import D90Error

TILE = 2**20
"""How many numbers a reference implementation generates at a time."""


@dataclass(frozen=True)
class Projection(ABC):
    """A fixed random linear map P from R^d to R^D, a function of its three numbers alone.

    Columns of P have unit expected norm. Rows can be asked for in any order and any slice, with
    the same bits; nothing is stored.

    Args:
        d: dimension of the subspace, 1 <= d <= D.
        D: number of weights.
        seed: seed of the projection, 0 <= seed < 2^64.

    Raises:
        D90Error: when one of the three is out of its range.
    """

    d: int
    D: int
    seed: int

    def __post_init__(self) -> None:
        if self.d < 1:
            raise D90Error(f"d is {self.d}: a subspace needs at least one dimension.")
        if self.d > self.D:
            raise D90Error(
                f"d = {self.d} is larger than D = {self.D}, the number of weights: "
                "choose a smaller d."
            )
        if not 0 <= self.seed < 2**64:
            raise D90Error(
                f"seed is {self.seed}: expected a whole number in [0, 2^64)."
            )

    @abstractmethod
    def apply(self, z: Tensor, start: int, stop: int) -> Tensor:
        """Rows `start..stop` of P z.

        Args:
            z: shape (d,), float32 or float64; the result has its dtype and device.

        Returns:
            Tensor of shape (stop - start,).
        """

    @abstractmethod
    def adjoint(self, g: Tensor, start: int, stop: int) -> Tensor:
        """`P[start:stop]^T g`, the exact transpose of `apply`: <P z, g> = <z, P^T g>.

        Args:
            g: shape (stop - start,), float32 or float64; the result has its dtype and device.

        Returns:
            Tensor of shape (d,).
        """

    def matrix(self, dtype: torch.dtype = torch.float64) -> Tensor:
        """P itself, shape (D, d): for tests and small sizes."""
        columns = torch.eye(self.d, dtype=dtype)
        return torch.stack([self.apply(column, 0, self.D) for column in columns], dim=1)


def tiles(start: int, stop: int, size: int) -> list[tuple[int, int]]:
    """`start..stop` cut at the multiples of `size`, so that a cut does not depend on the slice."""
    cuts = [start, *range((start // size + 1) * size, stop, size), stop]
    return [(low, high) for low, high in pairwise(cuts) if low < high]


def ordered_sum(rows: Tensor) -> Tensor:
    """Sum over the first axis, halving it: one order of additions for any number of threads."""
    while len(rows) > 1:
        half = len(rows) // 2
        folded = rows[:half] + rows[half : 2 * half]
        rows = torch.cat([folded, rows[2 * half :]]) if len(rows) % 2 else folded
    return rows[0]
