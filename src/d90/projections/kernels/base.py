"""The interface of the kernels, and the choice of one by environment variable."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from torch import Tensor

from d90.errors import unknown_name

KERNELS = ("auto", "native", "reference", "triton")


class RowBlock(NamedTuple):
    """Consecutive rows of P that belong to one contiguous tensor, of a dtype that the kernel takes.

    Attributes:
        start: its first row.
        source: theta_0 (or None, for zero) of `apply`; the gradient of `adjoint`.
        target: output of `apply`; None for `adjoint`.
        scale: multiplies these rows.
    """

    start: int
    source: Tensor | None
    target: Tensor | None
    scale: float = 1.0


class Kernel(Protocol):
    """The functions of `d90.projections.kernels.native` and `d90.projections.kernels.triton`."""

    def supports(self, name: str, d: int) -> bool:
        """Whether there is a kernel for the projection of this name and dimension."""
        ...

    def apply(
        self, name: str, d: int, D: int, seed: int, z: Tensor, rows: Sequence[RowBlock]
    ) -> None:
        """`target = source + scale * (P z)[start:...]` for each block of rows, in order.

        Where all of z is zero, a target gets the bits of its source.
        """
        ...

    def adjoint(
        self, name: str, d: int, D: int, seed: int, out: Tensor, rows: Sequence[RowBlock]
    ) -> None:
        """`out = sum of scale * P[start:...]^T source` over the blocks of rows, in order."""
        ...


def requested_kernel() -> str:
    """The kernel in the environment variable D90_KERNEL, a name in `KERNELS`.

    Raises:
        D90Error: for an unknown name.
    """
    name = os.environ.get("D90_KERNEL", "auto")
    if name not in KERNELS:
        raise unknown_name("kernel in D90_KERNEL", name, KERNELS)
    return name
