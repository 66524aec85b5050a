"""The authors' own Fastfood, for cross-checks only: one tensor, full length, a false adjoint."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from d90.projections.base import Projection
from d90.projections.kernels.hadamard import hadamard
from d90.rng import philox
from d90.rng.philox import Stream


@dataclass(frozen=True)
class Aghajanyan2021(Projection):
    """The projection of one tensor of D weights as the paper's released code computes it.

    With L = 2^ceil(log2 D): pad z to L, times B, H, gather by Pi, times G, H, keep the first D
    rows, divide by `sqrt(L sum(G^2)) sqrt(D / L)`. Two differences from `Fastfood` matter:

    * where d > L the padding is negative and crops z: such a tensor sees a prefix of z only;
    * its `adjoint` is what their backward pass does: H / sqrt(L) stands in place of H twice, so
      the gradient that reaches z is the true one divided by L.

    B, Pi and G are drawn by philox-v1, not by their generator.
    """

    def __post_init__(self) -> None:
        """A tensor smaller than d crops z rather than being refused, so d <= D is not asked."""

    @property
    def length(self) -> int:
        """L, the length of the two transforms."""
        return 1 << self._bits

    @property
    def _bits(self) -> int:
        return (self.D - 1).bit_length()

    def _apply(self, z: Tensor, start: int, stop: int) -> Tensor:
        sign, normal, place, scale = self._ingredients(z)
        padded = torch.nn.functional.pad(z, (0, self.length - self.d))
        x = hadamard((sign * padded)[None])[0]
        y = hadamard((normal * x[place])[None])[0]
        return y[start:stop] / scale

    def _adjoint(self, g: Tensor, start: int, stop: int) -> Tensor:
        """Their backward pass: 1 / L of the true adjoint."""
        sign, normal, place, scale = self._ingredients(g)
        y = torch.nn.functional.pad(g / scale, (start, self.length - stop))
        y = hadamard(y[None])[0] / math.sqrt(self.length) * normal
        x = torch.zeros_like(y).scatter_(0, place, y)
        x = hadamard(x[None])[0] / math.sqrt(self.length) * sign
        return torch.nn.functional.pad(x, (0, self.d - self.length))

    def _ingredients(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        word = philox.words(self.seed, Stream.FASTFOOD, 0, self.length, device=like.device)
        normal = philox.normals(
            self.seed, Stream.DENSE, 0, self.length, device=like.device, dtype=like.dtype
        )
        place = philox.permutations(self.seed, 0, 1, self._bits, device=like.device)[0]
        scale = torch.sqrt(self.length * normal.square().sum()) * math.sqrt(self.D / self.length)
        return philox.to_signs(word, like.dtype), normal, place, scale
