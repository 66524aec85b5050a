"""The processes that train one run together, and all that they say to each other.

Every process sees every batch and takes its share of the rows. A loss is a sum over rows divided by
the number of texts in the whole update, so gradients are summed: once an update, in one all-reduce
of what is trained and the loss. In a subspace these are d + 1 numbers.

Bytes are counted as they are handed to a collective operation, and once, by the process that has
them to tell. What a ring of n processes then sends is 2 (n - 1) / n of that from each.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import torch
import torch.distributed as dist
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env
from torch import Tensor, nn

from d90.distributed.launcher import world_size
from d90.errors import D90Error

SHORT = 2**20
"""Bytes of a vector that takes longer to arrive than to send."""

Purpose = Literal["gradient", "evaluation", "control"]
T = TypeVar("T")


@dataclass(frozen=True)
class ProcessGroup:
    """The processes of one run; made by `get_process_group`, and alone by default.

    Attributes:
        rank: number of this process, from 0.
        world: how many there are.
        device: where the numbers lie that are not tensors of the run.
        sent: bytes handed over for each purpose.
    """

    rank: int = 0
    world_size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    bytes_sent: Counter[Purpose] = field(default_factory=Counter)

    @property
    def is_main_process(self) -> bool:
        """Whether this process writes, prints and tells the others."""
        return self.rank == 0

    def shard(self, items: Sequence[T]) -> Sequence[T]:
        """Those of the items that are this process's to do; together they are all, once each."""
        return items[self.rank :: self.world_size]

    def all_reduce_sum(self, vector: Tensor, purpose: Purpose) -> None:
        """Put the sum over all processes in the place of the vector; the same bits in each."""
        size = vector.numel() * vector.element_size()
        if self.world_size != 2 or size > SHORT:
            self._reduce(vector, dist.ReduceOp.SUM, purpose)
            return
        # Two processes can as well swap their vectors: the bytes of a ring in half of its rounds,
        # which is what a short vector waits for.
        self.bytes_sent[purpose] += size
        first, second = torch.empty_like(vector), torch.empty_like(vector)
        dist.all_gather([first, second], vector)
        torch.add(first, second, out=vector)

    def all_reduce_max(self, vector: Tensor, purpose: Purpose) -> None:
        """Put the largest of each entry over all processes in the place of the vector."""
        self._reduce(vector, dist.ReduceOp.MAX, purpose)

    def broadcast_object(self, make: Callable[[], Any]) -> Any:
        """What `make` gives in the first process, as JSON has it; it is called in no other.

        Raises:
            D90Error: in every process, where `make` raises it in the first.
        """
        if self.world_size == 1:
            return make()
        said: dict[str, Any] = {}
        if self.is_main_process:
            try:
                said = {"value": make()}
            except D90Error as error:
                said = {"error": str(error)}
        size = torch.zeros(1, dtype=torch.int64, device=self.device)
        encoded = torch.frombuffer(bytearray(json.dumps(said).encode()), dtype=torch.uint8)
        if self.is_main_process:
            size += len(encoded)
        self._broadcast(size)
        text = encoded.to(self.device) if self.is_main_process else _bytes(int(size), self.device)
        self._broadcast(text)
        said = json.loads(bytes(text.tolist()))
        if "error" in said:
            raise D90Error(said["error"])
        return said["value"]

    def broadcast_tensors(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The first process's tensors; what the others give is not looked at."""
        if self.world_size == 1:
            return dict(tensors)
        kinds = self.broadcast_object(
            lambda: {name: (str(t.dtype)[6:], tuple(t.shape)) for name, t in tensors.items()}
        )
        told = {}
        for name, (dtype, shape) in kinds.items():
            if self.is_main_process:
                tensor = tensors[name].detach().contiguous().to(self.device)
            else:
                tensor = torch.empty(shape, dtype=getattr(torch, dtype), device=self.device)
            self._broadcast(tensor)
            told[name] = tensor
        return told

    def all_gather_object(self, value: Any) -> list[Any]:
        """What each process gives, by its number, as JSON has it."""
        if self.world_size == 1:
            return [value]
        text = torch.tensor([*json.dumps(value).encode()], dtype=torch.uint8, device=self.device)
        sizes = torch.zeros(self.world_size, dtype=torch.int64, device=self.device)
        sizes[self.rank] = len(text)
        self.all_reduce_sum(sizes, "control")
        longest = int(sizes.max())
        mine = _bytes(longest, self.device)
        mine[: len(text)] = text
        all_of_them = [_bytes(longest, self.device) for _ in range(self.world_size)]
        self.bytes_sent["control"] += longest
        dist.all_gather(all_of_them, mine)
        return [
            json.loads(bytes(one[:size].tolist()))
            for one, size in zip(all_of_them, sizes.tolist(), strict=True)
        ]

    @contextmanager
    def raise_on_all_ranks(self) -> Iterator[None]:
        """A block after which all processes go on, or none.

        Raises:
            D90Error: in every process, where the block raises it in one; the first one's words.
        """
        if self.world_size == 1:
            yield
            return
        message = ""
        try:
            yield
        except D90Error as error:
            message = str(error)
        messages = self.all_gather_object(message)
        for rank, text in enumerate(messages):
            if text:
                raise D90Error(text if rank == 0 else f"process {rank}: {text}")

    def assert_same_on_all_ranks(self, kind: str, parts: Mapping[str, str]) -> None:
        """See to it that every process is about to do the same.

        Args:
            kind: of thing that is done, for the message.
            parts: digests, by what they are of.

        Raises:
            D90Error: in every process, naming the first part that differs.
        """
        if self.world_size == 1:
            return
        found = self.all_gather_object(dict(parts))
        for rank, theirs in enumerate(found):
            for name, digest in found[0].items():
                if theirs.get(name) != digest:
                    raise D90Error(
                        f"process {rank} has other {name} than process 0 for the same {kind}: "
                        "give every process the same model, task, options and version of d90."
                    )

    def _reduce(self, vector: Tensor, how: Any, purpose: Purpose) -> None:
        if self.world_size == 1:
            return
        self.bytes_sent[purpose] += vector.numel() * vector.element_size()
        dist.all_reduce(vector, how)

    def _broadcast(self, tensor: Tensor) -> None:
        if self.is_main_process:
            self.bytes_sent["control"] += tensor.numel() * tensor.element_size()
        dist.broadcast(tensor, 0)


def get_process_group() -> ProcessGroup:
    """The processes that this one was launched with: itself alone where there was no launcher.

    Raises:
        D90Error: a launcher started several that torch cannot join.
    """
    if not dist.is_available():
        return ProcessGroup()
    if not dist.is_initialized():
        if world_size() == 1:
            return ProcessGroup()
        # accelerate joins processes without a GPU only if it is told that there is none.
        cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
        PartialState(cpu=cpu)
    if not dist.is_initialized():
        raise D90Error(f"{world_size()} processes were launched, which torch cannot join here.")
    gloo = "gloo" in dist.get_backend()
    device = torch.device("cpu") if gloo else PartialState().device
    return ProcessGroup(dist.get_rank(), dist.get_world_size(), device or torch.device("cpu"))


@contextmanager
def raise_on_all_ranks() -> Iterator[None]:
    """`ProcessGroup.raise_on_all_ranks` of the processes that this one was launched with."""
    with get_process_group().raise_on_all_ranks():
        yield


class GradientSync:
    """The gradients of some parameters, summed over all processes in one all-reduce.

    Args:
        parameters: what is trained; the same in every process.
        together: the processes.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], process_group: ProcessGroup) -> None:
        self._parameters, self._process_group = list(parameters), process_group
        self._reached: list[bool] | None = None

    def all_reduce(self, loss: Tensor) -> Tensor:
        """Sum the gradients, in place, and the loss, which is returned.

        Afterwards every process has the same bits. A process without rows takes part with zeros.
        """
        if self._process_group.world_size == 1:
            return loss
        reached = self._with_gradient()
        dtype = loss.dtype
        for parameter in reached:
            dtype = torch.promote_types(dtype, parameter.dtype)
        parts = [
            torch.zeros_like(p, dtype=dtype) if p.grad is None else p.grad.to(dtype)
            for p in reached
        ]
        vector = torch.cat([*(part.flatten() for part in parts), loss.to(dtype).flatten()])
        self._process_group.all_reduce_sum(vector, "gradient")
        *sums, total = vector.split([*(p.numel() for p in reached), 1])
        for parameter, part in zip(reached, sums, strict=True):
            parameter.grad = part.view_as(parameter).to(parameter.dtype)
        return total.view(()).to(loss.dtype)

    def _with_gradient(self) -> list[nn.Parameter]:
        if self._reached is None:
            self._reached = self._find_reached()
        flagged = list(zip(self._parameters, self._reached, strict=True))
        if any(p.grad is not None for p, reached in flagged if not reached):
            raise RuntimeError("a weight got its first gradient after the first update")
        return [p for p, reached in flagged if reached]

    def _find_reached(self) -> list[bool]:
        """Which parameters have a gradient in any process.

        The others must go without one in all: an optimizer leaves them alone, but would decay a
        weight whose gradient is zero. Asked once: after it, an update sends nothing but numbers.
        """
        flags = [parameter.grad is not None for parameter in self._parameters]
        vector = torch.tensor(flags, dtype=torch.uint8, device=self._process_group.device)
        self._process_group.all_reduce_max(vector, "control")
        return [bool(flag) for flag in vector.tolist()]


def _bytes(size: int, device: torch.device) -> Tensor:
    return torch.zeros(size, dtype=torch.uint8, device=device)
