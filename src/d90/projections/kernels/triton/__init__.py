"""onehot and fastfood as Triton kernels: philox-v1 in registers, one pass over the weights.

The same functions as `d90.projections.kernels.native`; the reference in `d90.projections` is the
specification. Under TRITON_INTERPRET=1 they run on the CPU, for tests. Importing this package
needs triton.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from types import ModuleType

import torch
import triton
from torch import Tensor

from d90.projections.kernels.base import RowBlock
from d90.projections.kernels.triton import fastfood, long_blocks, onehot

_PROJECTIONS: dict[str, tuple[ModuleType, ...]] = {
    "fastfood": (fastfood, long_blocks),
    "onehot": (onehot,),
}
"""By name, the modules of kernels, each up to its own LARGEST d."""

_OLDEST = (3, 6)
"""The oldest Triton with which the kernels are known to compile; with 3.3 they do not."""


def find_problem() -> str:
    """Why no kernel could be launched here; empty where nothing speaks against it.

    Found out before the first launch, where either would be an error in the middle of a run.
    """
    if tuple(map(int, triton.__version__.split(".")[:2])) < _OLDEST:
        return f"triton {triton.__version__} is older than 3.6 (torch 2.10), which d90 needs"
    compilers = [os.environ.get("CC"), "gcc", "clang"]
    is_interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    if not is_interpreted and not any(shutil.which(name) for name in compilers if name):
        return "triton builds its launchers with a C compiler, and there is none: install gcc"
    return ""


def supports(name: str, d: int) -> bool:
    """Whether there is a kernel for this projection of this dimension."""
    return _kernels(name, d) is not None


def _kernels(name: str, d: int) -> ModuleType | None:
    return next((each for each in _PROJECTIONS.get(name, ()) if d <= each.LARGEST), None)


def apply(name: str, d: int, D: int, seed: int, z: Tensor, rows: Sequence[RowBlock]) -> None:
    """`target = source + scale * (P z)[start:...]` for each block of rows, in order.

    Where all of z is zero, a target gets the bits of its source.
    """
    kernels = _kernels(name, d)
    assert kernels is not None
    with torch.cuda.device_of(z):
        kernels.apply(d, D, seed, z, rows)


def adjoint(name: str, d: int, D: int, seed: int, out: Tensor, rows: Sequence[RowBlock]) -> None:
    """`out = sum of scale * P[start:...]^T source` over the blocks of rows, in order.

    The same bits on every run: no two floating point numbers are added in an order that depends on
    timing.
    """
    kernels = _kernels(name, d)
    assert kernels is not None
    with torch.cuda.device_of(out):
        kernels.adjoint(d, D, seed, out, rows)
