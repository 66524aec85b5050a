"""z and lam: their first values, and whether they have changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from d90.search.subspace_config import SubspaceConfig


def init_coordinates(
    theta_0: Sequence[Tensor], config: SubspaceConfig, groups: int, device: torch.device
) -> tuple[nn.Parameter, nn.Parameter | None]:
    """z = 0 and lam = 1, at which theta is theta_0; no lam in DID.

    Args:
        theta_0: the trainable weights.
        config: d and the method.
        groups: m, the number of trainable groups.
        device: of z and lam.

    Returns:
        z of shape (d - m,) and lam of shape (m,), float32, or float64 if a weight is.
    """
    double = any(tensor.dtype == torch.float64 for tensor in theta_0)
    dtype = torch.float64 if double else torch.float32
    assert config.d is not None
    m = groups if config.is_said else 0
    z = nn.Parameter(torch.zeros(config.d - m, dtype=dtype, device=device))
    return z, nn.Parameter(torch.ones(m, dtype=dtype, device=device)) if m else None


@dataclass(frozen=True)
class _Vector:
    """A tensor at one time: the tensor itself, its version then, and a copy of its values."""

    tensor: Tensor
    version: int
    copy: Tensor

    def equals(self, tensor: Tensor) -> bool:
        if tensor is not self.tensor or _version(tensor) != self.version:
            return False
        # Writing to `tensor.data` does not count as a version.
        alike = (tensor.dtype, tensor.device) == (self.copy.dtype, self.copy.device)
        return alike and torch.equal(tensor, self.copy)


@dataclass(frozen=True)
class Snapshot:
    """z and lam at one time.

    Attributes:
        vectors: of z and, in SAID, of lam.
    """

    vectors: tuple[_Vector, ...]

    @classmethod
    def of(cls, parameters: Sequence[Tensor], copies: Sequence[Tensor]) -> Snapshot:
        """Of parameters, with copies of their values."""
        pairs = zip(parameters, copies, strict=True)
        return cls(tuple(_Vector(p, _version(p), copy) for p, copy in pairs))

    def equals(self, parameters: Sequence[Tensor]) -> bool:
        """Whether the parameters have these values still.

        Values are compared, which waits for the device, only where the version counters have not
        moved: after an optimizer step the answer is no, without a comparison.
        """
        return all(v.equals(p) for v, p in zip(self.vectors, parameters, strict=True))


def _version(tensor: Tensor) -> int:
    return -1 if tensor.is_inference() else tensor._version
