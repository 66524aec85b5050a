"""theta = theta_0 + s lam (P z) for the tensors of one group, as one op that autograd knows.

`GroupRows`, the interface of this module, identifies the rows of P of a group. The custom ops take
its fields one by one, as torch's schemas require.

The backward pass needs only z, lam and the fields that define P. They are not saved with
`save_for_backward`, which the first backward pass frees, so a node may run backward any number of
times: reentrant gradient checkpointing runs it once for every segment that reads the group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from d90.projections import Projection, make_projection
from d90.search.subspace_config import SubspaceConfig
from d90.subspace.buffer_pool import BufferLease
from d90.subspace.layout import Layout


@dataclass(frozen=True)
class GroupRows:
    """The rows of P that belong to the tensors of one group.

    Attributes:
        projection: a key of `PROJECTIONS`.
        D: number of rows of P.
        seed: seed of P.
        group: i, the index into lam.
        row_offsets: first row of each tensor, ascending.
        scales: s of each tensor.
    """

    projection: str
    D: int
    seed: int
    group: int
    row_offsets: tuple[int, ...]
    scales: tuple[float, ...]

    def add_projected(
        self, z: Tensor, lam: Tensor | None, theta_0: Sequence[Tensor]
    ) -> Sequence[Tensor]:
        """theta in new tensors, as an op that a compiler may reorder must return it."""
        return add_projected(z, lam, theta_0, self.group, *self._flat)

    @torch.no_grad()
    def write(
        self, z: Tensor, lam: Tensor | None, theta_0: Sequence[Tensor], out: Sequence[Tensor]
    ) -> None:
        """Write theta to `out`, tensors like theta_0, without a graph."""
        step = z if lam is None else lam[self.group] * z
        step = step.to(torch.promote_types(step.dtype, torch.float32))
        P = _projection(self.projection, len(z), self.D, self.seed)
        with torch.autocast(z.device.type, enabled=False):
            P.add_projected(step, theta_0, self.row_offsets, self.scales, out)

    def in_graph(self, z: Tensor, lam: Tensor | None, lease: BufferLease) -> Sequence[Tensor]:
        """The tensors of the lease, which hold theta, as a function of z and lam.

        The result shares their memory, and autograd's graph holds the lease.
        """
        theta = _Theta.apply(z, lam, lease, self)
        _run_early(theta[0])
        return theta

    def pull_back(self, gradients: Sequence[Tensor], d: int) -> Tensor:
        """`sum over t of s_t P_t^T g_t`, shape (d,), for a P of d columns."""
        with torch.autocast(gradients[0].device.type, enabled=False):
            P = _projection(self.projection, d, self.D, self.seed)
            return P.pull_back(gradients, self.row_offsets, self.scales)

    def derivatives(
        self,
        z: Tensor,
        lam: Tensor | None,
        gradients: Sequence[Tensor | None],
        *,
        traceable: bool = False,
    ) -> tuple[Tensor | None, Tensor | None]:
        """`dL/dz = lam_i a` and `dL/dlam_i = <a, z>` with `a = sum of s_t P_t^T g_t`.

        Args:
            gradients: dL/dtheta of each tensor; None for an unused tensor.
            traceable: call the projection as an op that a compiler can trace, which takes longer.
        """
        rows, present = self, [g for g in gradients if g is not None]
        if not present:
            return None, None
        if len(present) < len(gradients):
            rows = self.select([i for i, g in enumerate(gradients) if g is not None])
        if traceable:
            a = pull_back(present, len(z), *rows._flat).to(z.dtype)
        else:
            a = rows.pull_back(present, len(z)).to(z.dtype)
        if lam is None:
            return a, None
        lam_gradient = torch.zeros_like(lam)
        lam_gradient[self.group] = (a * z).sum()
        return lam[self.group] * a, lam_gradient

    def select(self, indices: Sequence[int]) -> GroupRows:
        """The rows of the tensors with these indices, ascending."""
        return replace(
            self,
            row_offsets=tuple(self.row_offsets[i] for i in indices),
            scales=tuple(self.scales[i] for i in indices),
        )

    @property
    def _flat(self) -> tuple[str, int, int, list[int], list[float]]:
        return (
            self.projection,
            self.D,
            signed(self.seed),
            list(self.row_offsets),
            list(self.scales),
        )


def group_rows(layout: Layout, config: SubspaceConfig) -> list[GroupRows]:
    """The rows of each group that moves, in the order of lam."""
    return [
        GroupRows(
            projection=config.projection,
            D=layout.D,
            seed=config.seed,
            group=i,
            row_offsets=tuple(param_slice.offset for param_slice in group.trainable),
            scales=tuple(param_slice.scale for param_slice in group.trainable),
        )
        for i, group in enumerate(layout.trainable)
    ]


def merge(groups: Sequence[GroupRows]) -> GroupRows:
    """The rows of several groups as those of one: without lam, one call writes them all."""
    return replace(
        groups[0],
        row_offsets=tuple(chain.from_iterable(rows.row_offsets for rows in groups)),
        scales=tuple(chain.from_iterable(rows.scales for rows in groups)),
    )


def signed(seed: int) -> int:
    """The seed as a signed 64-bit integer, as torch's schemas require: negative from 2^63 on."""
    return seed - 2**64 if seed >= 2**63 else seed


# The kernels take addresses of tensors, which a CUDA graph would freeze. Torch has the tag from 2.7
# or 2.8 on, with the argument.
_TAGS: dict[str, Any] = (
    {"tags": (torch.Tag.cudagraph_unsafe,)} if hasattr(torch.Tag, "cudagraph_unsafe") else {}
)


@torch.library.custom_op("d90::add_projected", mutates_args=(), **_TAGS)
def add_projected(
    z: Tensor,
    lam: Tensor | None,
    theta_0: Sequence[Tensor],
    group: int,
    projection: str,
    D: int,
    seed: int,
    row_offsets: Sequence[int],
    scales: Sequence[float],
) -> list[Tensor]:
    """`theta_t = theta_0,t + s_t lam_i (P z)_t` for every tensor t of group i.

    Sums are in float32, or in float64 if z is, and rounded to theta_0's dtype. At z = 0 the
    result is theta_0 bit for bit.

    Args:
        z: shape (d - m,).
        lam: shape (m,); None in DID.
        theta_0: the group's tensors, of any shape and floating dtype.
        group, projection, D, row_offsets, scales: as in `GroupRows`.
        seed: as `signed` returns it.

    Returns:
        A new tensor like each of theta_0.
    """
    out = [torch.empty_like(t) for t in theta_0]
    rows = GroupRows(projection, D, seed % 2**64, group, tuple(row_offsets), tuple(scales))
    rows.write(z, lam, theta_0, out)
    return out


@add_projected.register_fake
def _(z, lam, theta_0, group, projection, D, seed, row_offsets, scales):
    return [torch.empty_like(t) for t in theta_0]


@torch.library.custom_op("d90::pull_back", mutates_args=(), **_TAGS)
def pull_back(
    gradients: Sequence[Tensor],
    d: int,
    projection: str,
    D: int,
    seed: int,
    row_offsets: Sequence[int],
    scales: Sequence[float],
) -> Tensor:
    """`sum over t of s_t P_t^T g_t`: the gradient of `lam_i z` from the gradients of theta.

    It has no derivative, so that second derivatives raise an error instead of being wrong.

    Returns:
        Tensor of shape (d,), float64 if a gradient is, float32 otherwise.
    """
    rows = GroupRows(projection, D, seed % 2**64, 0, tuple(row_offsets), tuple(scales))
    return rows.pull_back(gradients, d)


@pull_back.register_fake
def _(gradients, d, projection, D, seed, row_offsets, scales):
    double = gradients[0].dtype == torch.float64
    return gradients[0].new_empty(d, dtype=torch.float64 if double else torch.float32)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    z, lam, theta_0, group, projection, D, seed, row_offsets, scales = inputs
    ctx.z, ctx.lam = z.detach(), None if lam is None else lam.detach()
    ctx.rows = GroupRows(projection, D, seed % 2**64, group, tuple(row_offsets), tuple(scales))
    ctx.count = len(theta_0)
    # A tensor without a gradient is skipped, instead of materialized as zeros.
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, gradients: list[Tensor | None]) -> tuple[Any, ...]:
    derivatives = ctx.rows.derivatives(ctx.z, ctx.lam, gradients, traceable=True)
    return *derivatives, [None] * ctx.count, *[None] * 6


add_projected.register_autograd(_backward, setup_context=_setup_context)


class _Theta(torch.autograd.Function):
    """The node of one group: its backward pass runs as soon as the group's gradients are ready."""

    @staticmethod
    def forward(
        ctx: Any, z: Tensor, lam: Tensor | None, lease: BufferLease, rows: GroupRows
    ) -> Any:
        ctx.z, ctx.lam = z.detach(), None if lam is None else lam.detach()
        ctx.lease, ctx.rows = lease, rows
        ctx.set_materialize_grads(False)
        return tuple(buffer.detach() for buffer in lease.tensors)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Any, ...]:
        ctx.lease.pending = False
        compiling = torch.compiler.is_compiling()
        derivatives = ctx.rows.derivatives(ctx.z, ctx.lam, gradients, traceable=compiling)
        return *derivatives, None, None


def _run_early(tensor: Tensor) -> None:
    """Make the backward node of a group's theta run as soon as its gradients are ready.

    Of the ready nodes, autograd runs the most recent one first. Theta is computed before the
    model runs, so the gradients of all groups would be alive at once. Autograd accumulates the
    gradients of leaves early by default.
    """
    set_number = getattr(tensor.grad_fn, "_set_sequence_nr", None)  # private: torch may remove it
    if set_number is not None:
        set_number(2**64 - 2)


def _projection(name: str, d: int, D: int, seed: int) -> Projection:
    return make_projection(name, d=d, D=D, seed=seed % 2**64)
