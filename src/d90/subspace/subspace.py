"""The d trained parameters of a model, and the computation of its weights from them.

The weights are plain tensors that replace the model's parameters. They are computed before a
forward pass and stay until the next one, so that later readers, such as gradient checkpointing,
read the same tensors. Their memory is reused (`d90.subspace.buffer_pool`).
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version

from d90.errors import D90Error
from d90.search.subspace_config import SubspaceConfig
from d90.subspace.buffer_pool import BufferLease, BufferPool
from d90.subspace.coordinates import Snapshot, init_coordinates
from d90.subspace.layout import Layout, ParamRef, ParamSite, ParamSlice
from d90.subspace.ops import GroupRows, group_rows, merge, signed

_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True)
class _Group:
    """The tensors of one group that move.

    Attributes:
        rows: their rows of P.
        names: of the buffers that hold their theta_0.
        sites: where the model holds each.
        pool: the memory of their theta.
    """

    rows: GroupRows
    names: tuple[str, ...]
    sites: tuple[Sequence[ParamSite], ...]
    pool: BufferPool


@dataclass(frozen=True)
class _Current:
    """What the current weights were computed from.

    Attributes:
        coordinates: the values of z and lam.
        traced: whether the weights are in an autograd graph of z.
        leases: of the buffers of the weights; the graph keeps them alive.
    """

    coordinates: Snapshot
    traced: bool
    leases: tuple[weakref.ref[BufferLease], ...]

    @property
    def is_pending(self) -> bool:
        """Whether a backward pass is still expected."""
        return any(lease.pending for lease in self._alive())

    def keep_buffers(self) -> None:
        """Keep the buffers as they are until the backward pass."""
        for lease in self._alive():
            lease.pending = True

    def _alive(self) -> list[BufferLease]:
        return [lease for lease in (ref() for ref in self.leases) if lease is not None]


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
        names = {}
        for i, (param_slice, tensor) in enumerate(zip(layout.slices, theta_0, strict=True)):
            names[param_slice] = f"theta_0_{i}"
            self.register_buffer(names[param_slice], tensor, persistent=False)
        device = theta_0[0].device
        self.z, self.lam = init_coordinates(theta_0, config, layout.m, device)
        # DDP sends rank 0's buffers to the other ranks, but not theta_0, which is model-sized.
        self._checksum = [_sum_of_bits(theta_0), signed(config.seed)]
        checksum = torch.tensor(self._checksum, device=device)
        self.register_buffer("checksum", checksum, persistent=False)
        self._checked: set[bool] = set()
        rows = group_rows(layout, config)
        self._groups = [
            _Group(
                rows_of_group,
                tuple(names[param_slice] for param_slice in group.trainable),
                tuple(self.sites[param_slice] for param_slice in group.trainable),
                BufferPool(),
            )
            for group, rows_of_group in zip(layout.trainable, rows, strict=True)
        ]
        self._fixed = [(names[s], self.sites[s]) for s in layout.slices if not s.scale]
        self._all_rows = merge(rows)
        self._hold: Literal["none", "begun", "compared"] = "none"
        # The model holds theta_0, which is theta.
        vectors = list(self.parameters())
        initial = Snapshot.of(vectors, [vector.detach().clone() for vector in vectors])
        self._current: _Current | None = _Current(initial, traced=False, leases=())

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

    @property
    def theta(self) -> dict[ParamSlice, Tensor]:
        """The weights at the current z and lam, which are the model's own tensors."""
        self.materialize()
        return {param_slice: getattr(*sites[0]) for param_slice, sites in self.sites.items()}

    @contextmanager
    def hold(self) -> Iterator[None]:
        """z and lam do not change inside: only the first forward pass compares them with theta's.

        Otherwise each forward pass does, which waits for the device unless their version counters
        have moved.
        """
        before, self._hold = self._hold, "begun"
        try:
            yield
        finally:
            self._hold = before

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
        # A compiled forward always computes theta: comparing values would break its graph, and its
        # backward, unlike the op's own, runs once.
        if torch.compiler.is_compiling():
            self._materialize_in_graph()
            return
        vectors = [self.z] if self.lam is None else [self.z, self.lam]
        traced = torch.is_grad_enabled() and any(vector.requires_grad for vector in vectors)
        current = self._current
        if current is None or not self._serves(current, vectors, traced):
            self._current = current = self._compute(vectors, traced)
        if traced:
            current.keep_buffers()
        if self._hold == "begun":
            self._hold = "compared"

    def _serves(self, current: _Current, vectors: Sequence[Tensor], traced: bool) -> bool:
        if traced and not current.traced:
            return False
        return self._hold == "compared" or current.coordinates.equals(vectors)

    def _compute(self, vectors: Sequence[Tensor], traced: bool) -> _Current:
        self._check_ranks()
        self._release()
        # Copies, so that an optimizer step before the backward pass does not change its result.
        copies = [vector.clone() for vector in vectors]
        z, lam = copies[0], None if self.lam is None else copies[1]
        leases = self._write(z, lam)
        for group, lease in zip(self._groups, leases, strict=True):
            tensors = lease.tensors
            theta = group.rows.in_graph(z, lam, lease) if traced else [t.detach() for t in tensors]
            for sites, tensor in zip(group.sites, theta, strict=True):
                _put(sites, tensor)
        coordinates = Snapshot.of(vectors, [copy.detach() for copy in copies])
        return _Current(coordinates, traced, tuple(weakref.ref(lease) for lease in leases))

    def _release(self) -> None:
        """Put theta_0 in the model where theta does not go, and where that frees memory.

        A graph that was dropped without a backward pass lives on in the model's weights alone.
        """
        for name, sites in self._fixed:
            _put(sites, self._theta_0(name))
        if self._current is None or self._current.is_pending:
            for group in self._groups:
                for name, sites in zip(group.names, group.sites, strict=True):
                    _put(sites, self._theta_0(name))
        self._current = None

    def _write(self, z: Tensor, lam: Tensor | None) -> list[BufferLease]:
        """Compute theta, without a graph; in DID in one call of the projection."""
        theta_0 = [[self._theta_0(name) for name in group.names] for group in self._groups]
        leases = [g.pool.lease(like) for g, like in zip(self._groups, theta_0, strict=True)]
        targets = [lease.tensors for lease in leases]
        if lam is None:
            flat = chain.from_iterable
            self._all_rows.write(z, None, list(flat(theta_0)), list(flat(targets)))
        else:
            for group, like, target in zip(self._groups, theta_0, targets, strict=True):
                group.rows.write(z, lam, like, target)
        # Autograd does not see the kernels' writes: without this, a graph that needs the old values
        # would not raise.
        increment_version(list(chain.from_iterable(targets)))
        return leases

    def _materialize_in_graph(self) -> None:
        self._check_ranks()
        z, lam = self.z.clone(), None if self.lam is None else self.lam.clone()
        for name, sites in self._fixed:
            _put(sites, self._theta_0(name))
        for group in self._groups:
            theta_0 = [self._theta_0(name) for name in group.names]
            theta = group.rows.add_projected(z, lam, theta_0)
            for sites, tensor in zip(group.sites, theta, strict=True):
                _put(sites, tensor)
        self._current = None

    def _theta_0(self, name: str) -> Tensor:
        tensor = self._buffers[name]
        assert tensor is not None
        return tensor

    def _check_ranks(self) -> None:
        """Once before DDP has written rank 0's checksum, and once after: neither changes later."""
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return
        is_written = self.checksum._version > 0
        if is_written in self._checked:
            return
        if self.checksum.tolist() != self._checksum:
            raise D90Error(
                "theta_0 or the seed on this rank differs from rank 0: load the same checkpoint on "
                "every rank, with the same seed for a new head and for P."
            )
        self._checked.add(is_written)

    def extra_repr(self) -> str:
        """What `print(model)` shows."""
        return f"d={self.d}, m={self.m}, D={self.layout.D}, projection={self.config.projection}"


def _put(sites: Sequence[ParamSite], tensor: Tensor) -> None:
    for module, attribute in sites:
        # `nn.Module.__setattr__` takes a microsecond to find that this is no parameter, buffer or
        # module. Recurrent modules have their own, which keeps a list of the weights.
        if torch.compiler.is_compiling() or type(module).__setattr__ is not nn.Module.__setattr__:
            setattr(module, attribute, tensor)
        else:
            module.__dict__[attribute] = tensor


def _sum_of_bits(tensors: Sequence[Tensor]) -> int:
    """An integer sum, so that it does not depend on the machine or the number of threads."""
    total = sum(int(t.view(_BITS[t.element_size()]).sum(dtype=torch.int64)) for t in tensors)
    return total & (2**63 - 1)
