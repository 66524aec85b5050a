"""Bytes that this process passes to the collective operations of torch.distributed."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch.distributed as dist
from torch import Tensor


def _size(*arguments: Any) -> int:
    """Bytes of the tensor that is sent, or of the pickled object."""
    tensors = [argument for argument in arguments if isinstance(argument, Tensor)]
    if tensors:
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    return len(pickle.dumps(arguments))


@contextmanager
def count_bytes() -> Iterator[Counter[str]]:
    """Count bytes by operation within the block; `all_reduce` with MAX is `all_reduce_max`."""
    sent: Counter[str] = Counter()

    def counting(name: str) -> Callable[..., Any]:
        operation = getattr(dist, name)

        def counted(*arguments: Any, **options: Any) -> Any:
            is_max = name == "all_reduce" and dist.ReduceOp.MAX in arguments[1:]
            sent[f"{name}_max" if is_max else name] += _size(*arguments)
            return operation(*arguments, **options)

        return counted

    names = ("all_reduce", "all_gather", "broadcast", "broadcast_object_list", "all_gather_object")
    with ExitStack() as stack:
        for name in names:
            stack.enter_context(mock.patch.object(dist, name, counting(name)))
        yield sent


def gradient_bytes(sent: Counter[str]) -> int:
    """Bytes of summed vectors; two processes gather short ones (`ProcessGroup.all_reduce_sum`)."""
    return sent["all_reduce"] + sent["all_gather"]
