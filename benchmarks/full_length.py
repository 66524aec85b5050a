"""Fastfood as it is commonly written: one block as long as the model, its arrays stored.

`P = H G Pi H B`, scaled, with z padded to the length. Source: Le, Sarlos and Smola 2013; the
implementations of Li et al. 2018 and Aghajanyan et al. 2021 have this form. A baseline for the
benchmark, not a part of d90.
"""

from __future__ import annotations

import torch
from torch import Tensor


def hadamard(x: Tensor) -> Tensor:
    """`H x`, unnormalized, in Sylvester's order: log2(n) passes over memory.

    >>> hadamard(torch.tensor([1.0, 2.0, 3.0, 4.0])).tolist()
    [10.0, -2.0, -4.0, 0.0]
    """
    n, h = len(x), 1
    while h < n:
        a, b = x.view(-1, 2, h).unbind(dim=1)
        x = torch.stack((a + b, a - b), dim=1).view(n)
        h *= 2
    return x


class FullLengthFastfood:
    """`theta_0 + H G Pi H B z` over n weights, and its adjoint.

    Args:
        d: length of z.
        n: number of weights, a power of 2.
        seed: seed of torch's generator.
    """

    def __init__(self, d: int, n: int, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.d, self.n = d, n
        self.B = 2.0 * torch.randint(0, 2, (n,), generator=generator) - 1
        self.Pi = torch.randperm(n, generator=generator)
        self.G = torch.randn(n, generator=generator)
        self.scale = 1 / (n**0.5 * float(torch.linalg.vector_norm(self.G)))

    def add_projected(self, z: Tensor, theta_0: Tensor) -> Tensor:
        """`theta_0 + P z`, shape (n,)."""
        padded = torch.nn.functional.pad(z, (0, self.n - self.d))
        mixed = hadamard(self.B * padded)
        return theta_0 + self.scale * hadamard(self.G * mixed[self.Pi])

    def adjoint(self, g: Tensor) -> Tensor:
        """`P^T g`, shape (d,): H is symmetric and the transpose of a gather is a scatter."""
        mixed = torch.empty_like(g)
        mixed[self.Pi] = self.G * hadamard(g)
        return self.scale * (self.B * hadamard(mixed))[: self.d]
