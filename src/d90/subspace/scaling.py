"""Scale policies: a fixed multiplier s for the rows of P of each tensor.

Columns of P have unit expected norm over all D rows, so an entry has variance 1 / D, and s = 1
everywhere is Li et al.'s choice. A policy takes the tensors of theta_0 and whether each belongs to
the head, and returns one s for each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Policy = Callable[[Sequence[Tensor], Sequence[bool]], list[float]]


def model(theta_0: Sequence[Tensor], in_head: Sequence[bool]) -> list[float]:
    """`s = 1`: columns of the whole P have unit norm.

    Source: Li et al., ICLR 2018.
    """
    return [1.0] * len(theta_0)


def tensor(theta_0: Sequence[Tensor], in_head: Sequence[bool]) -> list[float]:
    """`s_t = sqrt(D / N_t)`: each tensor's columns have unit norm; small tensors move more.

    Source: the forward pass of the code of Aghajanyan et al., ACL 2021.
    """
    D = sum(t.numel() for t in theta_0)
    return [math.sqrt(D / t.numel()) for t in theta_0]


def vectors(theta_0: Sequence[Tensor], in_head: Sequence[bool]) -> list[float]:
    """`tensor`, but s_t = 0 for matrices (two axes or more) outside the head."""
    scales = tensor(theta_0, in_head)
    return [
        s if head or t.ndim < 2 else 0.0
        for t, s, head in zip(theta_0, scales, in_head, strict=True)
    ]


def rms(theta_0: Sequence[Tensor], in_head: Sequence[bool]) -> list[float]:
    """`s_t` proportional to the tensor's root mean square, columns of the whole P have unit norm.

    A tensor of zeros, such as a new bias, would never move: it gets the root mean square of the
    whole model.
    """
    sizes = [t.numel() for t in theta_0]
    D = sum(sizes)
    norms = [_norm(t.detach()) for t in theta_0]
    whole = math.hypot(*norms) / math.sqrt(D) or 1.0
    sigma = [norm / math.sqrt(n) or whole for norm, n in zip(norms, sizes, strict=True)]
    length = math.sqrt(sum(n * x**2 for n, x in zip(sizes, sigma, strict=True)) / D)
    # Six digits, because the last bits of a norm depend on the machine and theta must not.
    return [float(f"{x / length:.6g}") for x in sigma]


def _norm(tensor: Tensor) -> float:
    norm = torch.linalg.vector_norm(tensor, dtype=torch.float64)
    # The norm of a DTensor is partial on each rank until it is gathered.
    return float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)


SCALES: dict[str, Policy] = {"model": model, "tensor": tensor, "rms": rms, "vectors": vectors}
