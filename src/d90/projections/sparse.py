"""Very sparse random projections: one in sqrt(D) entries is nonzero."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from d90.projections.base import TILE, Projection, tiles
from d90.rng import philox
from d90.rng.philox import Stream


@dataclass(frozen=True)
class Sparse(Projection):
    """Density `1 / sqrt(D)`, values +-1, scaled to unit expected columns.

    Source: Li, Hastie and Church, *Very sparse random projections*, KDD 2006. The
    paper draws each entry independently, which costs D d random values. This implementation is
    stratified: every column has exactly one nonzero in each stratum of `round(sqrt(D))` rows, at a
    random position. Density, variance and independence between columns are the same, the number of
    nonzeros per column is fixed, and the cost falls to O(d sqrt(D)) random values.
    """

    name: ClassVar[str] = "sparse"

    @property
    def stratum(self) -> int:
        """Number of rows that contain one nonzero of each column."""
        return max(1, round(math.sqrt(self.D)))

    @property
    def _scale(self) -> float:
        return math.sqrt(self.stratum / self.D)

    def _apply(self, z: Tensor, start: int, stop: int) -> Tensor:
        out = z.new_zeros(stop - start)
        for row, column, sign in self._entries(start, stop, z):
            out += torch.bincount(row, sign * z[column], stop - start)
        return out.mul_(self._scale)

    def _adjoint(self, g: Tensor, start: int, stop: int) -> Tensor:
        total = g.new_zeros(self.d)
        for row, column, sign in self._entries(start, stop, g):
            total += torch.bincount(column, sign * g[row], self.d)
        return total.mul_(self._scale)

    def _entries(
        self, start: int, stop: int, like: Tensor
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Row within the slice, column and sign of each nonzero, whole strata at a time."""
        size, per_tile = self.stratum, max(1, TILE // self.d)
        for low, high in tiles(start // size, -(-stop // size), per_tile):
            where = low * self.d, high * self.d
            word = philox.words(self.seed, Stream.SPARSE, *where, device=like.device)
            index = torch.arange(*where, device=like.device)
            row = (index // self.d) * size + philox.to_integers(word, size) - start
            inside = (row >= 0) & (row < stop - start)
            sign = philox.to_signs(word, like.dtype)
            yield row[inside], (index % self.d)[inside], sign[inside]
