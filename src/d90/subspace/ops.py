"""theta = theta_0 + s lam (P z) for the tensors of one group, as one op that autograd knows.

`add_projected` returns new tensors, as an op that a compiler may reorder must.
`add_projected_into` is the
same op for eager training: it writes to buffers that are kept from step to step.

Nothing is kept for the backward pass but z, lam and the numbers that define P, and these not in
autograd's own store, which the first backward pass empties. So a node may run backward any number
of times: reentrant gradient checkpointing runs it once for every segment that reads the group.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from d90.projections import Projection, make_projection
from d90.subspace.buffer_pool import BufferLease


@torch.library.custom_op("d90::displace", mutates_args=())
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

    Sums are made in float32, or in float64 where z is, and rounded to theta_0's dtype. At z = 0 the
    result is theta_0 bit for bit.

    Args:
        z: shape (length of z,).
        lam: shape (m,); None in DID.
        theta_0: the group's tensors, of any shape and floating dtype.
        group: i, the index into lam.
        projection: a key of `PROJECTIONS`.
        D: number of rows of P.
        seed: seed of P; negative numbers stand for seeds from 2^63.
        starts: first row of each tensor, ascending.
        scales: s of each tensor.

    Returns:
        A new tensor like each of theta_0.
    """
    out = [torch.empty_like(t) for t in theta_0]
    write(z, lam, theta_0, group, projection, D, seed, row_offsets, scales, out)
    return out


def signed(seed: int) -> int:
    """The seed as torch's whole numbers have it, and so these ops: from 2^63 on, negative."""
    return seed - 2**64 if seed >= 2**63 else seed


def write(
    z: Tensor,
    lam: Tensor | None,
    theta_0: Sequence[Tensor],
    group: int,
    projection: str,
    D: int,
    seed: int,
    row_offsets: Sequence[int],
    scales: Sequence[float],
    out: Sequence[Tensor],
) -> None:
    step = z if lam is None else lam[group] * z
    # theta_0 + 0 is theta_0, except that it turns -0.0 into 0.0.
    if not step.any():
        for target, tensor in zip(out, theta_0, strict=True):
            target.copy_(tensor)
        return
    step = step.to(torch.promote_types(step.dtype, torch.float32))
    with torch.autocast(z.device.type, enabled=False):
        _projection(projection, len(z), D, seed).add_projected(
            step, theta_0, row_offsets, scales, out
        )


@add_projected.register_fake
def _(z, lam, theta_0, group, projection, D, seed, row_offsets, scales):
    return [torch.empty_like(t) for t in theta_0]


@torch.library.custom_op("d90::collect", mutates_args=())
def pull_back(
    gradients: Sequence[Tensor],
    projection: str,
    d: int,
    D: int,
    seed: int,
    row_offsets: Sequence[int],
    scales: Sequence[float],
) -> Tensor:
    """`sum over t of s_t P_t^T g_t`: what the gradients of theta say to `lam_i z`.

    It has no derivative of its own, so that a second derivative is refused and not wrong.

    Returns:
        Tensor of shape (d,), float64 where a gradient is, float32 otherwise.
    """
    with torch.autocast(gradients[0].device.type, enabled=False):
        return _projection(projection, d, D, seed).pull_back(gradients, row_offsets, scales)


@pull_back.register_fake
def _(gradients, projection, d, D, seed, row_offsets, scales):
    double = gradients[0].dtype == torch.float64
    return gradients[0].new_empty(d, dtype=torch.float64 if double else torch.float32)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    z, lam, theta_0, *call = inputs
    ctx.z, ctx.lam = z.detach(), None if lam is None else lam.detach()
    ctx.count, ctx.call = len(theta_0), call
    # A tensor without a gradient is skipped, not read as zeros as long as the tensor.
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, gradients: list[Tensor | None]) -> tuple[Any, ...]:
    found = _derivatives(ctx.z, ctx.lam, gradients, *ctx.call)
    return *found, [None] * ctx.count, *[None] * len(ctx.call)


def _derivatives(
    z: Tensor,
    lam: Tensor | None,
    gradients: Sequence[Tensor | None],
    group: int,
    projection: str,
    D: int,
    seed: int,
    row_offsets: Sequence[int],
    scales: Sequence[float],
) -> tuple[Tensor | None, Tensor | None]:
    """`dL/dz = lam_i a` and `dL/dlam_i = <a, z>` with `a = sum of s_t P_t^T g_t`, d numbers."""
    held = [
        (gradient, start, scale)
        for gradient, start, scale in zip(gradients, row_offsets, scales, strict=True)
        if gradient is not None
    ]
    if not held:
        return None, None
    found, row_offsets, scales = zip(*held, strict=True)
    a = pull_back(found, projection, len(z), D, seed, row_offsets, scales)
    a = a.to(z.dtype)
    if lam is None:
        return a, None
    lam_gradient = torch.zeros_like(lam)
    lam_gradient[group] = (a * z).sum()
    return lam[group] * a, lam_gradient


add_projected.register_autograd(_backward, setup_context=_setup_context)


class _IntoBuffers(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, lam: Tensor | None, lease: BufferLease, *call: Any) -> Any:
        theta_0, *rest = call
        write(z, lam, theta_0, *rest, out=lease.tensors)
        # The kernels write behind autograd's back: a graph that still needs the old values is to
        # find out.
        increment_version(lease.tensors)
        ctx.z, ctx.lam = z.detach(), None if lam is None else lam.detach()
        ctx.lease, ctx.call = lease, rest
        ctx.set_materialize_grads(False)
        return tuple(buffer.detach() for buffer in lease.tensors)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Any, ...]:
        ctx.lease.held = False
        found = _derivatives(ctx.z, ctx.lam, gradients, *ctx.call)
        return *found, *[None] * (2 + len(ctx.call))


def add_projected_into(
    lease: BufferLease, z: Tensor, lam: Tensor | None, *call: Any
) -> Sequence[Tensor]:
    """`add_projected` to buffers: theta shares their memory, and autograd's graph holds the lease.

    Args:
        lease: from `BufferPool.lease`.
        z, lam, call: the arguments of `add_projected`.
    """
    theta = _IntoBuffers.apply(z, lam, lease, *call)
    _run_early(theta[0])
    return theta


def _run_early(tensor: Tensor) -> None:
    """Have the node of a group's theta run as soon as the gradients of the group are there.

    Of the nodes that are ready, autograd takes the one made last. All of theta is made before the
    model runs, so the gradients of all groups would be alive at once. A leaf's gradient has this
    privilege by itself.
    """
    set_number = getattr(tensor.grad_fn, "_set_sequence_nr", None)  # private: torch may lose it
    if set_number is not None:
        set_number(2**64 - 2)


def _projection(name: str, d: int, D: int, seed: int) -> Projection:
    return make_projection(name, d=d, D=D, seed=seed % 2**64)
