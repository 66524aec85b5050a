"""The Walsh-Hadamard transform in plain torch: the reference for every kernel."""

from __future__ import annotations

from torch import Tensor


def hadamard(x: Tensor) -> Tensor:
    """`x H` along the last axis, H in Sylvester order and not normalised (H H = n I).

    Args:
        x: shape (rows, n), n a power of two.

    >>> import torch
    >>> hadamard(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
    tensor([[10., -2., -4.,  0.]])
    """
    rows, n = x.shape
    width = 1
    while width < n:
        pairs = x.view(rows, n // (2 * width), 2, width)
        left, right = pairs[:, :, 0], pairs[:, :, 1]
        x = _interleave(left + right, left - right).view(rows, n)
        width *= 2
    return x


def _interleave(upper: Tensor, lower: Tensor) -> Tensor:
    out = upper.new_empty(*upper.shape[:2], 2, upper.shape[2])
    out[:, :, 0], out[:, :, 1] = upper, lower
    return out
