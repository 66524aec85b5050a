"""onehot and fastfood as Triton kernels: philox-v1 in registers, one pass over the weights.

The same functions as `d90.projections.kernels.native`; the reference in `d90.projections` is the
specification. Under TRITON_INTERPRET=1 they run on the CPU, for tests. Importing this package
needs triton.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from d90.projections.kernels.base import RowBlock
from d90.projections.kernels.triton import fastfood, onehot
from d90.projections.kernels.triton.segments import stop

_PROJECTIONS = {"fastfood": fastfood, "onehot": onehot}


def find_problem() -> str:
    """Why no kernel could be launched here; empty where nothing speaks against it.

    Found out before the first launch, where either would be an error in the middle of a run.
    """
    if not hasattr(tl, "gather"):
        return f"triton {triton.__version__} has no gather, which came with 3.3 (torch 2.7)"
    compilers = [os.environ.get("CC"), "gcc", "clang"]
    is_interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    if not is_interpreted and not any(shutil.which(name) for name in compilers if name):
        return "triton builds its launchers with a C compiler, and there is none: install gcc"
    return ""


def supports(name: str, d: int) -> bool:
    """Whether there is a kernel for this projection of this dimension."""
    return name in _PROJECTIONS and d <= _PROJECTIONS[name].LARGEST


def apply(name: str, d: int, D: int, seed: int, z: Tensor, rows: Sequence[RowBlock]) -> None:
    """`target = source + scale * (P z)[start:...]` for each block of rows, in order.

    Where all of z is zero, a target gets the bits of its source.
    """
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
