"""Independent normal entries, regenerated from the seed in tiles and never stored."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from d90.projections.base import Projection, ordered_sum, tiles
from d90.rng import philox
from d90.rng.philox import Stream

_ROWS, _COLUMNS = 2**14, 2**6


@dataclass(frozen=True)
class Dense(Projection):
    """Entries drawn from N(0, 1 / D): the definition that every other projection approximates.

    Column j is block j of its stream. Each use costs O(D d) random values.

    Source: Li, Farkhoor, Liu and Yosinski, ICLR 2018, section 2.
    """

    name: ClassVar[str] = "dense"

    @property
    def _scale(self) -> float:
        return 1 / math.sqrt(self.D)

    def _apply(self, z: Tensor, start: int, stop: int) -> Tensor:
        out = z.new_zeros(stop - start)
        for low, high, left, right, entries in self._tiles(start, stop, z):
            out[low - start : high - start] += ordered_sum(entries * z[left:right, None])
        return out.mul_(self._scale)

    def _adjoint(self, g: Tensor, start: int, stop: int) -> Tensor:
        total = g.new_zeros(self.d)
        for low, high, left, right, entries in self._tiles(start, stop, g):
            total[left:right] += ordered_sum((entries * g[low - start : high - start]).t())
        return total.mul_(self._scale)

    def _tiles(
        self, start: int, stop: int, like: Tensor
    ) -> Iterator[tuple[int, int, int, int, Tensor]]:
        """Rows low..high of columns left..right, transposed: shape (right - left, high - low)."""
        for low, high in tiles(start, stop, _ROWS):
            for left, right in tiles(0, self.d, _COLUMNS):
                columns = torch.arange(left, right, device=like.device)
                entries = philox.normals(
                    self.seed,
                    Stream.DENSE,
                    low,
                    high,
                    block=columns,
                    device=like.device,
                    dtype=like.dtype,
                )
                yield low, high, left, right, entries
