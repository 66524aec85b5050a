"""The processes that train one run, and the collective operations between them.

Every process sees every batch and takes a share of its rows. A loss is a sum over rows divided by
the number of examples of the whole optimizer step, so gradients are summed: once per step, in one
all-reduce of the trainable parameters' gradients and the loss (`d90.distributed.gradients`). In a
subspace these are d + 1 values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env
from torch import Tensor

from d90.distributed.launcher import check_address, world_size
from d90.errors import D90Error

SHORT = 2**20
"""Bytes of a vector whose all-reduce is bound by latency, not by bandwidth."""

T = TypeVar("T")


@dataclass(frozen=True)
class ProcessGroup:
    """The processes of one run; made by `get_process_group`, and alone by default.

    Attributes:
        rank: of this process, from 0.
        world_size: number of processes.
        device: of tensors that are only sent.
    """

    rank: int = 0
    world_size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_main_process(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.rank == 0

    def shard(self, items: Sequence[T]) -> Sequence[T]:
        """The items of this process; each item belongs to one process."""
        return items[self.rank :: self.world_size]

    def all_reduce_sum(self, vector: Tensor) -> None:
        """Sum the vector over all processes, in place; all get the same bits."""
        if self.world_size == 1:
            return
        if self.world_size != 2 or vector.numel() * vector.element_size() > SHORT:
            dist.all_reduce(vector)
            return
        # Two processes can swap their vectors instead: the bytes of a ring in half of its rounds,
        # whose latency dominates for a short vector.
        first, second = torch.empty_like(vector), torch.empty_like(vector)
        dist.all_gather([first, second], vector)
        torch.add(first, second, out=vector)

    def all_reduce_max(self, vector: Tensor) -> None:
        """Take the elementwise maximum over all processes, in place."""
        if self.world_size > 1:
            dist.all_reduce(vector, dist.ReduceOp.MAX)

    def broadcast_object(self, make: Callable[[], T]) -> T:
        """What `make` returns in the main process; it is called in no other.

        The object is pickled, as by `torch.distributed`: the processes trust each other.

        Raises:
            D90Error: in every process, if `make` raises it.
        """
        if self.world_size == 1:
            return make()
        message: list[Any] = [None]
        if self.is_main_process:
            try:
                message = [make()]
            except D90Error as error:
                message = [_Failure(error)]
        dist.broadcast_object_list(message, device=self.device)
        if isinstance(message[0], _Failure):
            raise message[0].error
        return message[0]

    def broadcast_tensors(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The main process's tensors; the argument of the others is ignored."""
        if self.world_size == 1:
            return dict(tensors)
        shapes = self.broadcast_object(
            lambda: {name: (t.shape, t.dtype) for name, t in tensors.items()}
        )
        result = {}
        for name, (shape, dtype) in shapes.items():
            if self.is_main_process:
                tensor = tensors[name].detach().contiguous().to(self.device)
            else:
                tensor = torch.empty(shape, dtype=dtype, device=self.device)
            dist.broadcast(tensor, 0)
            result[name] = tensor
        return result

    def all_gather_object(self, value: T) -> list[T]:
        """The value of each process, by rank."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values

    @contextmanager
    def raise_on_all_ranks(self) -> Iterator[None]:
        """A block that succeeds in all processes or in none.

        Raises:
            D90Error: in every process, if the block raises it in one; that of the lowest rank.
        """
        if self.world_size == 1:
            yield
            return
        mine: D90Error | None = None
        try:
            yield
        except D90Error as error:
            mine = error
        for rank, error in enumerate(self.all_gather_object(mine)):
            if error is not None:
                raise error if rank == 0 else D90Error(f"process {rank}: {error}")

    def assert_same_on_all_ranks(self, kind: str, parts: Mapping[str, str]) -> None:
        """Check that every process is about to do the same.

        Args:
            kind: what is about to be done, for the message.
            parts: digests, by name of what was digested.

        Raises:
            D90Error: in every process, naming the first part that differs.
        """
        if self.world_size == 1:
            return
        all_parts = self.all_gather_object(dict(parts))
        for rank, theirs in enumerate(all_parts):
            for name, digest in all_parts[0].items():
                if theirs.get(name) != digest:
                    raise D90Error(
                        f"process {rank} has other {name} than process 0 for the same {kind}: "
                        "give every process the same model, task, options and version of d90."
                    )


@dataclass(frozen=True)
class _Failure:
    """An error of the main process, sent in place of an object."""

    error: D90Error


def get_process_group() -> ProcessGroup:
    """The processes that a launcher started with this one; this one alone without a launcher.

    Raises:
        D90Error: torch cannot initialize its process group.
    """
    if not dist.is_available():
        return ProcessGroup()
    if not dist.is_initialized():
        if world_size() == 1:
            return ProcessGroup()
        check_address()
        # accelerate joins processes without a GPU only with `cpu=True`.
        cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
        PartialState(cpu=cpu)
    if not dist.is_initialized():
        raise D90Error(f"{world_size()} processes were launched, but torch has no process group.")
    gloo = "gloo" in dist.get_backend()
    device = torch.device("cpu") if gloo else PartialState().device
    return ProcessGroup(dist.get_rank(), dist.get_world_size(), device or torch.device("cpu"))


@contextmanager
def raise_on_all_ranks() -> Iterator[None]:
    """`ProcessGroup.raise_on_all_ranks` of the processes that this one was launched with."""
    with get_process_group().raise_on_all_ranks():
        yield
