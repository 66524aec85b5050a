"""Which implementation of a projection runs: native on the CPU, Triton on a GPU, or torch.

The torch reference runs everywhere and is the specification of the other two.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor

from d90.errors import D90Error
from d90.projections.kernels.base import Kernel, requested_kernel

_DEVICES = {"native": "cpu", "triton": "cuda"}
_DTYPES = {
    "native": {torch.float32, torch.bfloat16},
    "triton": {torch.float32, torch.bfloat16, torch.float16},
}
_REMEDIES = {
    "native": "reinstall d90 with a C++ compiler available",
    "triton": "install triton 3.6 or newer, and a C compiler",
}


def implementation(
    requested: str,
    device: str,
    dtypes: Sequence[torch.dtype],
    is_available: Callable[[str], bool],
    *,
    interpreted: bool = False,
) -> str:
    """native, triton or reference.

    Args:
        requested: a name in `KERNELS`.
        device: type of the device that all tensors are on.
        dtypes: of z, or of the output of the adjoint; then of theta_0, theta or gradients. Kernels
            support float32 for the first, and float32 or bfloat16 for the others, Triton's float16
            too; other dtypes go to the reference.
        is_available: whether native or triton can be loaded; called only if it would run.
        interpreted: whether Triton kernels run in its interpreter, on the CPU.

    Raises:
        D90Error: native or triton is requested by name and cannot run on this device.

    >>> implementation("auto", "cuda", [torch.float32], lambda name: True)
    'triton'
    """
    suitable = [name for name, accepted in _DTYPES.items() if {*dtypes} <= accepted]
    if requested == "reference" or dtypes[0] != torch.float32 or not suitable:
        return "reference"
    if requested == "auto":
        usable = [name for name in suitable if _DEVICES[name] == device and is_available(name)]
        return usable[0] if usable else "reference"
    if requested not in suitable:
        return "reference"
    device_type = "cpu" if requested == "triton" and interpreted else _DEVICES[requested]
    if device != device_type:
        hint = ", set TRITON_INTERPRET=1 for its interpreter" if requested == "triton" else ""
        problem = f"takes tensors on {device_type}, but these are on {device}: move them{hint}"
    elif not is_available(requested):
        problem = f"cannot be loaded: {_REMEDIES[requested]}"
    else:
        return requested
    raise D90Error(f"D90_KERNEL={requested} {problem}, or choose another kernel.")


def select_kernel(vector: Tensor, *others: Tensor) -> str:
    """native, triton or reference for these tensors: `implementation`, on this machine.

    Args:
        vector: z, or the output of the adjoint.
        others: theta_0, theta or gradients.

    Raises:
        D90Error: see `implementation`.
    """
    tensors = (vector, *others)
    if len({tensor.device for tensor in tensors}) > 1:
        return "reference"
    return implementation(
        requested_kernel(),
        vector.device.type,
        [tensor.dtype for tensor in tensors],
        lambda name: _load(name) is not None,
        interpreted=os.environ.get("TRITON_INTERPRET") == "1",
    )


def kernel(name: str, d: int, vector: Tensor, *others: Tensor) -> Kernel | None:
    """The kernel that runs a call of the projection of this name; None for the reference.

    Args:
        name: of the projection; empty for one without kernels.
        d: its dimension.
        vector, others: as in `select_kernel`.

    Raises:
        D90Error: see `implementation`.
    """
    choice = select_kernel(vector, *others) if name else "reference"
    loaded = None if choice == "reference" else _load(choice)
    return loaded if loaded is not None and loaded.supports(name, d) else None


def _load(name: str) -> Kernel | None:
    return _native() if name == "native" else _triton()


def _native() -> Kernel | None:
    from d90.projections.kernels import native

    return native if native.library() is not None else None


@cache
def _triton() -> Kernel | None:
    try:
        from d90.projections.kernels import triton
    except ImportError as error:
        problem = f"triton cannot be imported ({error})"
    else:
        problem = triton.find_problem()
        if not problem:
            return triton
    if requested_kernel() == "auto":
        warnings.warn(
            f"{problem}: the slower torch reference runs on the GPU.", RuntimeWarning, stacklevel=3
        )
    return None
