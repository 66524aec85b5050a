"""The d trained parameters of a model, and the computation of its weights from them.

The weights are plain tensors that replace the model's parameters. They are computed before a
forward pass and stay until the next one, so that later readers, such as gradient checkpointing,
read the same tensors. Their memory is reused (`d90.subspace.buffer_pool`).
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from d90.errors import D90Error
from d90.search.subspace_config import SubspaceConfig
from d90.subspace.buffer_pool import BufferLease, BufferPool
from d90.subspace.layout import Layout, ParamRef, ParamSite, ParamSlice
from d90.subspace.ops import group_rows, signed

_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True)
class _Current:
    """The coordinates that the current weights were computed from.

    Attributes:
        z, lam: copies of the values.
        traced: whether the weights are in an autograd graph of z.
        leases: of the buffers of the weights; the graph keeps them alive.
    """

    z: Tensor
    lam: Tensor | None
    traced: bool
    leases: tuple[weakref.ref[BufferLease], ...] = ()

    def matches(self, z: Tensor, lam: Tensor | None, traced: bool) -> bool:
        # Values and not version counters: writing to `z.data` does not count as a version.
        return (self.traced or not traced) and _same(self.z, z) and _same(self.lam, lam)

    def keep_buffers(self) -> None:
        """Keep the buffers as they are until the backward pass."""
        for lease in (ref() for ref in self.leases):
            if lease is not None:
                lease.pending = True


def _same(left: Tensor | None, right: Tensor | None) -> bool:
    if left is None or right is None:
        return left is right
    alike = left.dtype == right.dtype and left.device == right.device
    return alike and torch.equal(left, right)


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


class Subspace(nn.Module):
    """`theta_i = theta_0,i + s lam_i (P z)_i` for every group i of a model's weights.

    Initially z = 0 and lam = 1. DID has no lam. Created by `attach`.

    Args:
        layout: where each weight lies in theta.
        weights: the tensors of theta_0 and where the model holds them, in the order of the layout.
        config: its d fits the layout (`SubspaceConfig.check_size`).

    Attributes:
        z: shape (d - m,), float32 (float64 if a weight is).
        lam: shape (m,); None in DID.
        sites: the (module, attribute) pairs that hold each tensor of theta.
        undo: what `detach` runs.
    """

    z: nn.Parameter
    lam: nn.Parameter | None
    checksum: Tensor

    def __init__(self, layout: Layout, weights: Sequence[ParamRef], config: SubspaceConfig) -> None:
        super().__init__()
        self.layout, self.config = layout, config
        self.undo = ExitStack()
        # In a plain dict, which torch ignores: these modules belong to the model already.
        self.sites = {s: w.sites for s, w in zip(layout.slices, weights, strict=True)}
        theta_0 = [weight.parameter.detach() for weight in weights]
        for i, tensor in enumerate(theta_0):
            self.register_buffer(f"theta_0_{i}", tensor, persistent=False)
        device = theta_0[0].device
        self.z, self.lam = init_coordinates(theta_0, config, layout.m, device)
        # DDP sends rank 0's buffers to the other ranks, but not theta_0, which is model-sized.
        self._checksum = [_sum_of_bits(theta_0), signed(config.seed)]
        checksum = torch.tensor(self._checksum, device=device)
        self.register_buffer("checksum", checksum, persistent=False)
        self._rows = group_rows(layout, config)
        self._pools = [BufferPool() for _ in self._rows]
        self._current = _Current(
            self.z.detach().clone(), _clone(self.lam, detached=True), traced=False
        )

    @property
    def d(self) -> int:
        """Number of trainable parameters, z and lam together."""
        return self.z.numel() + self.m

    @property
    def m(self) -> int:
        """Number of entries of lam; 0 in DID."""
        return 0 if self.lam is None else self.lam.numel()

    @property
    def theta_0(self) -> dict[ParamSlice, Tensor]:
        """The weights at z = 0."""
        return {
            param_slice: self.get_buffer(f"theta_0_{i}")
            for i, param_slice in enumerate(self.layout.slices)
        }

    def forward(self, x: Any) -> Any:
        """The identity: a model that is an `nn.Sequential` calls every child in turn."""
        return x

    def before_forward(self, model: nn.Module, inputs: Any) -> None:
        """The forward pre-hook of the model; does not change the inputs."""
        self.materialize()

    def materialize(self) -> None:
        """Compute theta and set it in the model, unless it is current.

        Raises:
            D90Error: under DDP, on a rank whose theta_0 or seed is not that of rank 0.
        """
        traced = torch.is_grad_enabled() and any(p.requires_grad for p in self.parameters())
        # A compiled forward always computes theta: comparing values would break its graph, and its
        # backward, unlike the op's own, runs once.
        compiling = torch.compiler.is_compiling()
        if not compiling and self._current.matches(self.z, self.lam, traced):
            if traced:
                self._current.keep_buffers()
            return
        self._check_ranks()
        base = self.theta_0
        # The previous theta is released first, so that its memory is reused.
        for param_slice, tensor in base.items():
            _put(self.sites[param_slice], tensor)
        # Copies, so that an optimizer step before the backward pass does not change its result.
        z, lam = self.z.clone(), _clone(self.lam)
        leases = []
        for group, rows, pool in zip(self.layout.trainable, self._rows, self._pools, strict=True):
            theta_0 = [base[param_slice] for param_slice in group.trainable]
            if compiling:
                theta = rows.add_projected(z, lam, theta_0)
            else:
                lease = pool.lease(theta_0)
                theta = rows.add_projected_into(lease, z, lam, theta_0)
                leases.append(weakref.ref(lease))
                del lease
            for param_slice, tensor in zip(group.trainable, theta, strict=True):
                _put(self.sites[param_slice], tensor)
        current = _Current(
            z.detach(), _clone(lam, detached=True), traced and not compiling, tuple(leases)
        )
        if current.traced:
            current.keep_buffers()
        self._current = current

    def _check_ranks(self) -> None:
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return
        if self.checksum.tolist() != self._checksum:
            raise D90Error(
                "theta_0 or the seed on this rank differs from rank 0: load the same checkpoint on "
                "every rank, with the same seed for a new head and for P."
            )

    def extra_repr(self) -> str:
        """What `print(model)` shows."""
        return f"d={self.d}, m={self.m}, D={self.layout.D}, projection={self.config.projection}"


def _put(sites: Sequence[ParamSite], tensor: Tensor) -> None:
    for module, attribute in sites:
        setattr(module, attribute, tensor)


def _clone(tensor: Tensor | None, *, detached: bool = False) -> Tensor | None:
    if tensor is None:
        return None
    return tensor.detach().clone() if detached else tensor.clone()


def _sum_of_bits(tensors: Sequence[Tensor]) -> int:
    """An integer sum, so that it does not depend on the machine or the number of threads."""
    total = sum(int(t.view(_BITS[t.element_size()]).sum(dtype=torch.int64)) for t in tensors)
    return total & (2**63 - 1)
