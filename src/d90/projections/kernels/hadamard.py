"""The Walsh-Hadamard transform in plain torch: the reference for every kernel.

Two algorithms: a butterfly, log2(n) passes of additions, for the CPU; and products with small
Hadamard matrices, one pass per six bits of n, which use the matrix units of GPUs.

Relative errors in float32 (norm of the error by norm of the result, normal x, against float64 on a
CPU): the butterfly has 8e-8 at n = 2^8, 1.0e-7 at 2^14 and 1.2e-7 at 2^20; the products have 4e-8,
4e-8 and 5e-8, because they round twice per factor and the butterfly once per bit.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

_BITS = 6
"""Matrices of at most 64 x 64."""

_MASK = -(2**16)
"""The upper sixteen bits of a float32: sign, exponent and eight significant bits."""


def hadamard(x: Tensor) -> Tensor:
    """`x H` along the last axis, H in Sylvester order and not normalized (H H = n I).

    The algorithm depends on the device: products with small matrices on a GPU, else the butterfly.

    Args:
        x: shape (rows, n), n a power of two.

    >>> import torch
    >>> hadamard(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
    tensor([[10., -2., -4.,  0.]])
    """
    return by_products(x) if x.device.type == "cuda" else butterfly(x)


def butterfly(x: Tensor) -> Tensor:
    """`hadamard` in log2(n) passes of additions and subtractions."""
    rows, n = x.shape
    width = 1
    while width < n:
        pairs = x.view(rows, n // (2 * width), 2, width)
        left, right = pairs[:, :, 0], pairs[:, :, 1]
        x = _interleave(left + right, left - right).view(rows, n)
        width *= 2
    return x


def by_products(x: Tensor) -> Tensor:
    """`hadamard` as products with small Hadamard matrices, one per factor of n = f_1 f_2 ...

    `H_n = H_f1 (x) H_f2 (x) ...`, a Kronecker product (Sylvester's construction), and each f is at
    most 64. A matrix unit may round the factors of a float32 product to TF32, by a global setting
    that a library should not change. So float32 inputs are split into exact sums of three values
    of eight significant bits: their products with +-1 are exact in float32, TF32 and bfloat16, and
    only the float32 sum is rounded.

    Args:
        x: shape (rows, n), n a power of two; contiguous.

    >>> by_products(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
    tensor([[10., -2., -4.,  0.]])
    """
    rows, n = x.shape
    after = n
    for bits in factor_bits(n.bit_length() - 1):
        after >>= bits
        # H is symmetric, so it can be the left factor, without a transpose of x.
        factor = sylvester(bits, x.dtype, x.device)
        products = [factor @ part for part in parts(x.reshape(-1, 1 << bits, after))]
        x = sum(products[1:], products[0])
    return x.reshape(rows, n)


def factor_bits(bits: int) -> list[int]:
    """`bits` as a sum of as few as possible, as equal as possible numbers of at most 6.

    >>> factor_bits(14)
    [5, 5, 4]
    """
    count = -(-bits // _BITS)
    return [bits // count + (i < bits % count) for i in range(count)]


def parts(x: Tensor) -> list[Tensor]:
    """Tensors that add up to x exactly: three of eight significant bits for float32, else x.

    The smallest comes first, for accuracy of their sum.
    """
    if x.dtype != torch.float32:
        return [x]
    first = _leading(x)
    second = _leading(x - first)
    return [x - first - second, second, first]


def _leading(x: Tensor) -> Tensor:
    return (x.view(torch.int32) & _MASK).view(torch.float32)


@cache
def sylvester(bits: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Sylvester's Hadamard matrix of 2^bits rows: the parity of bits shared by row and column."""
    place = torch.arange(1 << bits, device=device)
    shared = place[:, None] & place
    for shift in (4, 2, 1):
        shared = shared ^ (shared >> shift)
    return (1 - 2 * (shared & 1)).to(dtype)


def _interleave(upper: Tensor, lower: Tensor) -> Tensor:
    out = upper.new_empty(*upper.shape[:2], 2, upper.shape[2])
    out[:, :, 0], out[:, :, 1] = upper, lower
    return out
