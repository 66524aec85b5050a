"""One signed coordinate of z for each weight: the cheapest projection, with orthogonal columns."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from d90.projections.base import TILE, Projection, tiles
from d90.rng import philox
from d90.rng.philox import Stream


@dataclass(frozen=True)
class OneHot(Projection):
    """Row r of P is `+-sqrt(d / D)` at one random column and zero elsewhere.

    Columns are exactly orthogonal, and of unit expected norm. A count sketch transposed (Charikar,
    Chen and Farach-Colton 2002); as a subspace for fine-tuning: Uni-LoRA (Li et al. 2025).

    Sixteen consecutive rows of P share one random draw: their columns are sixteen neighbors, from a
    uniform start and modulo d, in a random order. The column of each single row is uniform; such a
    group costs two random words and one load, instead of sixteen of each for independent columns.
    """

    name: ClassVar[str] = "onehot"

    @property
    def _scale(self) -> float:
        return math.sqrt(self.d / self.D)

    def _apply(self, z: Tensor, start: int, stop: int) -> Tensor:
        out = z.new_empty(stop - start)
        for low, high in tiles(start, stop, TILE):
            column, sign = self._rows(low, high, z)
            torch.mul(z[column], sign, out=out[low - start : high - start])
        return out.mul_(self._scale)

    def _adjoint(self, g: Tensor, start: int, stop: int) -> Tensor:
        total = g.new_zeros(self.d)
        for low, high in tiles(start, stop, TILE):
            column, sign = self._rows(low, high, g)
            total += torch.bincount(column, sign * g[low - start : high - start], self.d)
        return total.mul_(self._scale)

    def _rows(self, low: int, high: int, like: Tensor) -> tuple[Tensor, Tensor]:
        first, last = low // philox.LANES, -(-high // philox.LANES)
        shape, base = philox.rows(self.seed, Stream.ONEHOT, first, last, device=like.device)
        column = philox.to_integers(base, self.d)[:, None] + philox.row_permutations(shape)
        inside = slice(low - first * philox.LANES, high - first * philox.LANES)
        column, sign = column % self.d, philox.row_signs(shape, like.dtype)
        return column.view(-1)[inside], sign.view(-1)[inside]
