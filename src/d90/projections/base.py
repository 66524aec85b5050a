"""The contract of every projection P : R^d -> R^D."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from d90.errors import D90Error
from d90.projections.kernels import dispatch
from d90.projections.kernels.base import Kernel, RowBlock

TILE = 2**20
"""Number of random values that a reference implementation generates at a time."""


@dataclass(frozen=True)
class Projection(ABC):
    """A fixed random linear map P from R^d to R^D, a function of (d, D, seed) alone.

    Columns of P have unit expected norm. Rows can be computed in any order and any slice, with the
    same bits; nothing is stored.

    Args:
        d: dimension of the subspace, 1 <= d <= D.
        D: number of weights, at most 2^53.
        seed: seed of the projection, 0 <= seed < 2^64.

    Raises:
        D90Error: an argument is out of range.
    """

    d: int
    D: int
    seed: int

    name: ClassVar[str] = ""
    """Name of its kernels; empty if there is only the reference."""

    def __post_init__(self) -> None:
        if self.d < 1:
            raise D90Error(f"d is {self.d}: a subspace needs at least one dimension.")
        if self.d > self.D:
            raise D90Error(
                f"d = {self.d} is larger than D = {self.D}, the number of weights: "
                "choose a smaller d."
            )
        if self.D > 2**53:  # Every number up to it is exact in float64, in the kernels too.
            raise D90Error(f"D is {self.D}: expected at most 2^53 weights.")
        if not 0 <= self.seed < 2**64:
            raise D90Error(f"seed is {self.seed}: expected a whole number in [0, 2^64).")

    def apply(self, z: Tensor, start: int, stop: int) -> Tensor:
        """Rows `start..stop` of P z.

        Args:
            z: shape (d,), float32 or float64; the result has its dtype and device.

        Returns:
            Tensor of shape (stop - start,).

        Raises:
            ValueError: for a z of another shape, or rows outside 0..D.
        """
        self._check(z, self.d, start, stop)
        kernel = self._kernel(z)
        if kernel is None:
            return self._apply(z, start, stop)
        out = z.new_empty(stop - start)
        kernel.apply(
            self.name, self.d, self.D, self.seed, z.contiguous(), [RowBlock(start, None, out)]
        )
        return out

    def adjoint(self, g: Tensor, start: int, stop: int) -> Tensor:
        """`P[start:stop]^T g`, the exact transpose of `apply`: <P z, g> = <z, P^T g>.

        Args:
            g: shape (stop - start,), float32 or float64; the result has its dtype and device.

        Returns:
            Tensor of shape (d,).

        Raises:
            ValueError: for a g of another shape, or rows outside 0..D.
        """
        self._check(g, stop - start, start, stop)
        kernel = self._kernel(g)
        if kernel is None:
            return self._adjoint(g, start, stop)
        out = g.new_empty(self.d)
        rows = [RowBlock(start, g.contiguous(), None)]
        kernel.adjoint(self.name, self.d, self.D, self.seed, out, rows)
        return out

    def add_projected(
        self,
        z: Tensor,
        theta_0: Sequence[Tensor],
        row_offsets: Sequence[int],
        scales: Sequence[float],
        out: Sequence[Tensor] | None = None,
    ) -> list[Tensor]:
        """`theta_0 + s (P z)` for several tensors, in one pass over memory.

        Where all of z is zero, the result is theta_0 bit for bit: -0.0 + 0 would be 0.0. No value
        is read from the device for it.

        Args:
            z: shape (d,).
            theta_0: tensors of any shape and floating dtype; sums have z's dtype.
            row_offsets: first row of each tensor, ascending.
            scales: s of each tensor.
            out: tensors to write to, shaped like theta_0; allocated if None.

        Returns:
            A tensor like each of theta_0.
        """
        out = [torch.empty_like(t) for t in theta_0] if out is None else list(out)
        kernel = self._kernel(z, *theta_0, *out)
        if kernel is not None and all(t.is_contiguous() for t in (*theta_0, *out)):
            rows = map(RowBlock, row_offsets, theta_0, out, scales)
            kernel.apply(self.name, self.d, self.D, self.seed, z.contiguous(), list(rows))
            return out
        nonzero = z.any()
        for tensor, target, start, scale in zip(theta_0, out, row_offsets, scales, strict=True):
            step = self.apply(z, start, start + tensor.numel()).view(tensor.shape)
            target.copy_(torch.where(nonzero, tensor.to(z.dtype) + scale * step, tensor))
        return out

    def pull_back(
        self, gradients: Sequence[Tensor], row_offsets: Sequence[int], scales: Sequence[float]
    ) -> Tensor:
        """`sum of s P[rows]^T g` over tensors: the gradient of z through `add_projected`.

        Returns:
            Tensor of shape (d,), float64 if a gradient is, float32 otherwise.
        """
        dtype = torch.float64 if gradients[0].dtype == torch.float64 else torch.float32
        # The gradient of a sum is an expanded scalar, with strides of 0.
        whole = [g.contiguous() for g in gradients]
        out = whole[0].new_empty(self.d, dtype=dtype)
        kernel = self._kernel(out, *whole)
        if kernel is not None:
            rows = [
                RowBlock(a, g, None, s) for a, g, s in zip(row_offsets, whole, scales, strict=True)
            ]
            kernel.adjoint(self.name, self.d, self.D, self.seed, out, rows)
            return out
        total = torch.zeros_like(out)
        for g, start, scale in zip(whole, row_offsets, scales, strict=True):
            total += scale * self.adjoint(g.to(dtype).view(-1), start, start + g.numel())
        return total

    @abstractmethod
    def _apply(self, z: Tensor, start: int, stop: int) -> Tensor:
        """`apply` in plain torch: the specification of every kernel."""

    @abstractmethod
    def _adjoint(self, g: Tensor, start: int, stop: int) -> Tensor:
        """`adjoint` in plain torch."""

    def _kernel(self, vector: Tensor, *long: Tensor) -> Kernel | None:
        return dispatch.kernel(self.name, self.d, vector, *long)

    def _check(self, vector: Tensor, length: int, start: int, stop: int) -> None:
        if not 0 <= start <= stop <= self.D:
            raise ValueError(f"rows {start}..{stop} are outside 0..{self.D}")
        if vector.shape != (length,):
            raise ValueError(f"expected a vector of shape ({length},), got {tuple(vector.shape)}")

    def matrix(self, dtype: torch.dtype = torch.float64) -> Tensor:
        """P itself, shape (D, d): for tests and small sizes."""
        columns = torch.eye(self.d, dtype=dtype)
        return torch.stack([self.apply(column, 0, self.D) for column in columns], dim=1)


def tiles(start: int, stop: int, size: int) -> list[tuple[int, int]]:
    """`start..stop` cut at the multiples of `size`, so that the cuts do not depend on the slice."""
    cuts = [start, *range((start // size + 1) * size, stop, size), stop]
    return [(low, high) for low, high in pairwise(cuts) if low < high]


def ordered_sum(rows: Tensor) -> Tensor:
    """Sum over the first axis, halving it: one order of additions for any number of threads."""
    while len(rows) > 1:
        half = len(rows) // 2
        folded = rows[:half] + rows[half : 2 * half]
        rows = torch.cat([folded, rows[2 * half :]]) if len(rows) % 2 else folded
    return rows[0]
