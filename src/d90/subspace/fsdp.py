"""A subspace of a sharded model: each rank has its rows of theta_0, and computes its rows of P z.

For models larger than one device. FSDP2 (`torch.distributed.fsdp.fully_shard`) keeps a shard of
every weight on each rank, all-gathers a layer while it is needed and reduce-scatters its gradient.
The subspace writes theta to the shards and reads the gradients of the shards. Every rank can
compute any rows of P, so only the gradient of d parameters is exchanged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, Shard

from d90.distributed.process_group import ProcessGroup, get_process_group
from d90.errors import D90Error
from d90.search.subspace_config import SubspaceConfig
from d90.subspace.coordinates import Snapshot, init_coordinates
from d90.subspace.layout import Layout, ParamRef, ParamSlice, build_layout, find_params
from d90.subspace.ops import GroupRows, group_rows, merge
from d90.utils.digest import json_digest


@dataclass(frozen=True)
class ShardedParam:
    """This rank's rows of one tensor of theta.

    Attributes:
        parameter: the sharded parameter.
        theta_0: a copy of its local shard at z = 0.
        rows: the rows of P of the shard.
    """

    parameter: nn.Parameter
    theta_0: Tensor
    rows: GroupRows

    @property
    def local(self) -> Tensor:
        """The local shard of theta."""
        return _local(self.parameter)


class ShardedSubspace(nn.Module):
    """`theta_i = theta_0,i + s lam_i (P z)_i`, every rank for its own rows.

    Created by `attach_sharded`. z and lam are replicated, bit for bit the same on every rank.

    Attributes:
        z: shape (d - m,).
        lam: shape (m,); None in DID.
        layout: of the whole model, as if it were not sharded.
        process_group: the ranks that share the model.
    """

    z: nn.Parameter
    lam: nn.Parameter | None

    def __init__(
        self,
        model: nn.Module,
        layout: Layout,
        weights: Sequence[ParamRef],
        config: SubspaceConfig,
        process_group: ProcessGroup,
    ) -> None:
        super().__init__()
        self.layout, self.config, self.process_group = layout, config, process_group
        self._sharded = [module for module in model.modules() if isinstance(module, FSDPModule)]
        parameters = {s: w.parameter for s, w in zip(layout.slices, weights, strict=True)}
        groups = [
            [
                _shard(parameters[param_slice], param_slice, rows, process_group.world_size)
                for param_slice in group.trainable
            ]
            for group, rows in zip(layout.trainable, group_rows(layout, config), strict=True)
        ]
        self._shards = list(chain.from_iterable(groups))
        self._sizes = [len(shards) for shards in groups]
        device = self._shards[0].theta_0.device
        self.z, self.lam = init_coordinates([*parameters.values()], config, layout.m, device)
        # Without lam, one call of the projection writes every group.
        calls = [self._shards] if self.lam is None else groups
        self._calls = [[s for s in shards if s.theta_0.numel()] for shards in calls]
        self._current = self._snapshot()
        # One sum of s P^T g per group with a lam.
        sums = 1 if self.lam is None else len(self.lam)
        self._collected = self.z.new_zeros(sums, len(self.z), requires_grad=False)
        self._waiting: list[ShardedParam] = []
        self._hooks = [
            # First, before FSDP gathers the shards.
            model.register_forward_pre_hook(self._before_forward, prepend=True),
            *(
                shard.parameter.register_post_accumulate_grad_hook(self._collector(shard))
                for shard in self._shards
            ),
            *(
                parameters[param_slice].register_post_accumulate_grad_hook(_drop_gradient)
                for param_slice in layout.slices
                if not param_slice.scale
            ),
        ]

    @property
    def num_local_params(self) -> int:
        """Number of entries of theta_0 on this rank; each entry is on one rank."""
        return sum(shard.theta_0.numel() for shard in self._shards)

    @torch.no_grad()
    def materialize(self) -> None:
        """Write theta to this rank's shards, unless it is current."""
        if self._current.equals([*self.parameters()]):
            return
        for module in self._sharded:  # Layers that are still gathered hold the last theta.
            module.reshard()
        for shards in filter(None, self._calls):
            targets = [shard.local for shard in shards]
            rows = merge([shard.rows for shard in shards])
            rows.write(self.z, self.lam, [shard.theta_0 for shard in shards], targets)
            increment_version(targets)
        self._current = self._snapshot()

    def reduce_gradient(self) -> None:
        """Set the gradients of z and lam: the sum over all shards, an all-reduce of d values.

        Call it once for each optimizer step, after the last backward pass and before
        `optimizer.step()`. FSDP defines the gradients of the shards: by default, of the mean
        of the ranks' losses.
        """
        self._collect()
        parts = [self._collected.sum(0)]
        if self.lam is not None:
            parts = [self.lam.detach() @ self._collected, self._collected @ self.z.detach()]
        vector = torch.cat(parts)
        self.process_group.all_reduce_sum(vector)
        self.z.grad = vector[: len(self.z)].clone()
        if self.lam is not None:
            self.lam.grad = vector[len(self.z) :].clone()
        self._collected.zero_()

    @torch.no_grad()
    def detach(self) -> None:
        """Undo `attach_sharded`: restore theta_0 in the shards, bit for bit."""
        for hook in self._hooks:
            hook.remove()
        for module in self._sharded:
            module.reshard()
        for shard in self._shards:
            shard.local.copy_(shard.theta_0)

    def _before_forward(self, model: nn.Module, inputs: Any) -> None:
        self.materialize()

    def _collector(self, shard: ShardedParam) -> Any:
        """A hook that projects the gradients of a group as soon as all are ready, and frees them.

        Where some of the group never come, they wait for the first of another group, so that no
        more than one group's gradients are alive.
        """

        def collect(_: Tensor) -> None:
            group = shard.rows.group
            if self._waiting and self._waiting[0].rows.group != group:
                self._collect()
            if not any(other is shard for other in self._waiting):
                self._waiting.append(shard)
            if len(self._waiting) == self._sizes[group]:
                self._collect()

        return collect

    def _collect(self) -> None:
        """Project the gradients that wait, in the order of their rows, and free them."""
        shards = sorted(self._waiting, key=lambda shard: shard.rows.row_offsets)
        self._waiting.clear()
        gradients = [_local(shard.parameter.grad) for shard in shards]
        for shard in shards:
            shard.parameter.grad = None
        rows = [shard.rows for shard, g in zip(shards, gradients, strict=True) if g.numel()]
        if not rows:
            return
        projected = merge(rows).pull_back([g for g in gradients if g.numel()], len(self.z))
        lam_index = 0 if self.lam is None else rows[0].group
        self._collected[lam_index] += projected.to(self._collected.dtype)

    def _snapshot(self) -> Snapshot:
        parameters = [*self.parameters()]
        return Snapshot.of(parameters, [p.detach().clone() for p in parameters])


def attach_sharded(
    model: nn.Module,
    *,
    d: int,
    method: str = "did",
    groups: str = "layer",
    projection: str = "fastfood",
    scale: str = "tensor",
    seed: int = 0,
) -> ShardedSubspace:
    """Make the weights of a sharded model a function of d parameters, in place.

    The same theta as `attach` gives on the unsharded model: rows of P follow the layout of the
    whole model. Train `subspace.parameters()`, not the model's::

        fully_shard(model)
        subspace = attach_sharded(model, d=200)
        optimizer = torch.optim.Adam(subspace.parameters())
        ...
        loss.backward()
        subspace.reduce_gradient()
        optimizer.step()

    A collective: every rank must make the same calls. z may change only between the last backward
    pass of one optimizer step and the first forward pass of the next.

    Args:
        model: after `fully_shard` over all ranks, along the first axis.
        d, method, groups, projection, scale, seed: as in `attach`.

    Raises:
        D90Error: as `attach`; a weight that is not sharded; arguments that differ between
            ranks.
    """
    config = SubspaceConfig(method, groups, projection, scale, d, seed)
    layout, weights = build_layout(model, find_params(model), groups=groups, scale=scale)
    config.check_size(layout.D, layout.m)
    process_group = get_process_group()
    for weight in weights:
        _check_sharded(weight, process_group.world_size)
    slices = [[s.name, s.offset, s.scale] for s in layout.slices]
    about = json_digest([config.to_dict(), slices])
    process_group.assert_same_on_all_ranks("subspace", {"options": about})
    return ShardedSubspace(model, layout, weights, config, process_group)


def _check_sharded(weight: ParamRef, world: int) -> None:
    parameter = weight.parameter
    if not isinstance(parameter, DTensor):
        raise D90Error(
            f"parameter {weight.names[0]} is not sharded: call fully_shard(model) first."
        )
    if parameter.placements != (Shard(0),) or parameter.device_mesh.size() != world:
        raise D90Error(
            f"parameter {weight.names[0]} has placements {parameter.placements} over "
            f"{parameter.device_mesh.size()} ranks: expected shards along the first axis over "
            f"all {world}."
        )


def _shard(
    parameter: nn.Parameter, param_slice: ParamSlice, rows: GroupRows, world: int
) -> ShardedParam:
    """The rows of this rank: all but the last ranks have the same number, rounded up."""
    assert isinstance(parameter, DTensor)
    theta_0 = _local(parameter).clone()
    length, *rest = param_slice.shape or (1,)
    first = min(parameter.device_mesh.get_local_rank() * math.ceil(length / world), length)
    offset = param_slice.offset + first * math.prod(rest)
    rows = replace(rows, row_offsets=(offset,), scales=(param_slice.scale,))
    return ShardedParam(parameter, theta_0, rows)


def _drop_gradient(parameter: Tensor) -> None:
    """A hook on a frozen weight."""
    parameter.grad = None


def _local(tensor: Any) -> Tensor:
    assert isinstance(tensor, DTensor)
    return tensor.to_local().detach()
