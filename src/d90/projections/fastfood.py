"""Fastfood: a projection in O(D log d) that stores nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from d90.projections.base import TILE, Projection, ordered_sum, tiles
from d90.projections.kernels.hadamard import hadamard
from d90.rng import philox
from d90.rng.philox import Stream


@dataclass(frozen=True)
class Fastfood(Projection):
    """Block k of P is `H G_k Pi_k H B_k / sqrt(n D)`, of n = 2^ceil(log2 d) rows.

    B is +-1, G standard normal, Pi a permutation, H the Walsh-Hadamard matrix in Sylvester order
    and not normalized. A column of `H G Pi H B` has squared norm n sum(G^2), n^2 in expectation.
    G takes entries k n.. of its stream, from 256 on square by square transposed; B takes bits 0..15
    of the first word of each row of sixteen entries.

    Source: Le, Sarlos and Smola, *Fastfood*, ICML 2013, equation 8, without the matrix S.
    """

    name: ClassVar[str] = "fastfood"

    @property
    def n(self) -> int:
        """Length of a block."""
        return 1 << self._bits

    @property
    def _bits(self) -> int:
        return (self.d - 1).bit_length()

    @property
    def _scale(self) -> float:
        return 1 / math.sqrt(self.n * self.D)

    def _apply(self, z: Tensor, start: int, stop: int) -> Tensor:
        padded = torch.nn.functional.pad(z, (0, self.n - self.d))
        out = z.new_empty(stop - start)
        for low, high in tiles(start, stop, max(TILE, self.n)):
            first, last = low // self.n, -(-high // self.n)
            signs, normals, places = self._ingredients(first, last, z)
            x = hadamard(signs * padded)
            y = hadamard(x.gather(1, places) * normals)
            rows = slice(low - first * self.n, high - first * self.n)
            torch.mul(y.view(-1)[rows], self._scale, out=out[low - start : high - start])
        return out

    def _adjoint(self, g: Tensor, start: int, stop: int) -> Tensor:
        total = g.new_zeros(self.n)
        for low, high in tiles(start, stop, max(TILE, self.n)):
            first, last = low // self.n, -(-high // self.n)
            signs, normals, places = self._ingredients(first, last, g)
            y = g.new_zeros(last - first, self.n)
            rows = slice(low - first * self.n, high - first * self.n)
            y.view(-1)[rows] = g[low - start : high - start]
            y = hadamard(y) * normals
            x = hadamard(torch.zeros_like(y).scatter_(1, places, y)) * signs
            total += ordered_sum(x)
        return total[: self.d] * self._scale

    def _ingredients(self, first: int, last: int, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """B, G and Pi of blocks `first..last`, each of shape (last - first, n)."""
        where, device = (first * self.n, last * self.n), like.device
        shape = (last - first, self.n)
        normals = philox.normals(
            self.seed, Stream.FASTFOOD, *where, device=device, dtype=like.dtype
        ).view(shape)
        if self.n >= philox.SQUARE:
            normals = philox.transpose_squares(normals)
        low, high = where[0] // philox.LANES, -(-where[1] // philox.LANES)
        word, _ = philox.rows(self.seed, Stream.FASTFOOD_ROWS, low, high, device=device)
        signs = philox.row_signs(word, like.dtype).view(-1)
        signs = signs[where[0] - low * philox.LANES :][: where[1] - where[0]].view(shape)
        places = philox.permutations(self.seed, first, last, self._bits, device=device)
        return signs, normals, places
