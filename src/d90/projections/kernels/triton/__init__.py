"""onehot and fastfood as Triton kernels: philox-v1 in registers, one pass over the weights.

The same functions as `d90.projections.kernels.native`; the reference in `d90.projections` is the
specification. Under TRITON_INTERPRET=1 they run on the CPU, for tests. Importing this package
needs triton.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from d90.projections.kernels.base import RowBlock
from d90.projections.kernels.triton import fastfood, onehot
from d90.projections.kernels.triton.segments import stop

_PROJECTIONS = {"fastfood": fastfood, "onehot": onehot}


def supports(name: str, d: int) -> bool:
    """Whether there is a kernel for this projection of this dimension."""
    return name in _PROJECTIONS and d <= _PROJECTIONS[name].LARGEST


def apply(name: str, d: int, D: int, seed: int, z: Tensor, rows: Sequence[RowBlock]) -> None:
    """`target = source + scale * (P z)[start:...]` for each block of rows, in order."""
    _check(D, rows)
    with torch.cuda.device_of(z):
        _PROJECTIONS[name].apply(d, D, seed, z, rows)


def adjoint(name: str, d: int, D: int, seed: int, out: Tensor, rows: Sequence[RowBlock]) -> None:
    """`out = sum of scale * P[start:...]^T source` over the blocks of rows, in order.

    The same bits on every run: no two floating point numbers are added in an order that depends on
    timing.
    """
    _check(D, rows)
    with torch.cuda.device_of(out):
        _PROJECTIONS[name].adjoint(d, D, seed, out, rows)


def _check(D: int, rows: Sequence[RowBlock]) -> None:
    ends = [0, *(stop(run) for run in rows)]
    row_offsets = [*(run.start for run in rows), D]
    if any(start < end for end, start in zip(ends, row_offsets, strict=True)):
        raise ValueError(f"rows out of order or out of range for D = {D}")
