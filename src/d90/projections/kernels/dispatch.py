"""Which implementation of a projection serves: native on the CPU, Triton on a GPU, or torch.

The torch reference runs everywhere and is the specification of the other two.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from d90.errors import unknown_name

if TYPE_CHECKING:
    from d90.projections.kernels.native import RowBlock

KERNELS = ("auto", "native", "reference", "triton")

_HOMES = {"native": "cpu", "triton": "cuda"}
_PLAIN = (torch.float32, torch.bfloat16)
_REMEDIES = {
    "native": "reinstall d90 with a C++ compiler at hand",
    "triton": "pip install triton",
}


class Kernel(Protocol):
    """What `d90.projections.kernels.native` and `d90.projections.kernels.triton` offer; the
    first has the docstrings.
    """

    def supports(self, name: str, d: int) -> bool: ...

    def apply(
        self, name: str, d: int, D: int, seed: int, z: Tensor, rows: Sequence[RowBlock]
    ) -> None: ...

    def adjoint(
        self, name: str, d: int, D: int, seed: int, out: Tensor, rows: Sequence[RowBlock]
    ) -> None: ...


def requested_kernel() -> str:
    """The kernel asked for by the environment variable D90_KERNEL, a name of `KERNELS`."""
    name = os.environ.get("D90_KERNEL", "auto")
    if name not in KERNELS:
        raise unknown_name("kernel in D90_KERNEL", name, KERNELS)
    return name


def implementation(
    wanted: str,
    device: str,
    dtypes: Sequence[torch.dtype],
    is_there: Callable[[str], bool],
    *,
    interpreted: bool = False,
) -> str:
    """native, triton or reference.

    Args:
        wanted: a name of `KERNELS`.
        device: type of the device that all tensors are on.
        dtypes: of z, or of what the adjoint gives; then of theta_0, theta or gradients. Kernels
            take float32 for the first and float32 or bfloat16 for the others; what they do not
            take goes to the reference.
        is_there: whether native or triton can be loaded; asked only where it would serve.
        interpreted: whether Triton kernels run in its interpreter, on the CPU.

    Raises:
        RuntimeError: when native or triton is asked for by name and cannot serve this device.

    >>> implementation("auto", "cuda", [torch.float32], lambda name: True)
    'triton'
    """
    if wanted == "reference" or dtypes[0] != torch.float32 or not set(dtypes) <= set(_PLAIN):
        return "reference"
    if wanted == "auto":
        usual = [name for name, home in _HOMES.items() if home == device and is_there(name)]
        return usual[0] if usual else "reference"
    home = "cpu" if wanted == "triton" and interpreted else _HOMES[wanted]
    if device != home:
        hint = ", set TRITON_INTERPRET=1 for its interpreter" if wanted == "triton" else ""
        problem = f"takes tensors on {home}, but these are on {device}: move them{hint}"
    elif not is_there(wanted):
        problem = f"cannot be loaded: {_REMEDIES[wanted]}"
    else:
        return wanted
    raise RuntimeError(f"D90_KERNEL={wanted} {problem}, or choose another kernel")


def select_kernel(vector: Tensor, *long: Tensor) -> str:
    """native, triton or reference for these tensors: `implementation`, asked of this machine.

    Args:
        vector: z, or what the adjoint gives.
        long: theta_0, theta or gradients.

    Raises:
        RuntimeError: see `implementation`.
    """
    tensors = (vector, *long)
    if len({tensor.device for tensor in tensors}) > 1:
        return "reference"
    return implementation(
        requested_kernel(),
        vector.device.type,
        [tensor.dtype for tensor in tensors],
        lambda name: _load(name) is not None,
        interpreted=os.environ.get("TRITON_INTERPRET") == "1",
    )


def kernel(name: str, d: int, vector: Tensor, *long: Tensor) -> Kernel | None:
    """The kernel that serves a call of the projection of that name; None where the reference does.

    Args:
        name: of the projection; empty for one without kernels.
        d: its dimension.
        vector, long: as in `select_kernel`.

    Raises:
        RuntimeError: see `implementation`.
    """
    choice = select_kernel(vector, *long) if name else "reference"
    found = None if choice == "reference" else _load(choice)
    return found if found is not None and found.supports(name, d) else None


def _load(name: str) -> Kernel | None:
    return _native() if name == "native" else _triton()


def _native() -> Kernel | None:
    from d90.projections.kernels import native

    return native if native.library() is not None else None


@cache
def _triton() -> Kernel | None:
    try:
        from d90.projections.kernels import triton
    except ImportError as problem:
        if requested_kernel() == "auto":
            warnings.warn(
                f"triton cannot be imported ({problem}): the slower torch reference serves on the "
                "GPU.",
                RuntimeWarning,
                stacklevel=3,
            )
        return None
    return triton
