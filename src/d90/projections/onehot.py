"""One signed coordinate of z for each weight: the cheapest projection, with orthogonal columns."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from d90 import random
from d90.projections.base import TILE, Projection, tiles
from d90.random import Stream


@dataclass(frozen=True)
class OneHot(Projection):
    """Row r of P is `+-sqrt(d / D)` at one random column and zero elsewhere.

    Columns are exactly orthogonal, and of unit expected norm. A count sketch transposed (Charikar,
    Chen and Farach-Colton 2002); as a subspace for fine-tuning: Uni-LoRA (Li et al. 2025).
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
        word = random.words(self.seed, Stream.ONEHOT, low, high, device=like.device)
        return random.to_integers(word, self.d), random.to_signs(word, like.dtype)
