"""Memory for theta that is allocated once and reused in every step.

A set of buffers is free as soon as its contents are no longer needed: the graph built on it has run
backward, or was deleted. If a backward pass is still pending, as when z changes between a forward
and its backward pass, the next theta uses another set.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(eq=False)
class BufferLease:
    """The use of one set of buffers by one graph, which holds the only lasting reference to it.

    Attributes:
        pending: whether a backward pass is still expected.
    """

    tensors: list[Tensor]
    pending: bool = False


class BufferPool:
    """Sets of tensors shaped like a group's theta_0, allocated when first needed."""

    def __init__(self) -> None:
        self._sets: list[tuple[list[Tensor], weakref.ref[BufferLease]]] = []

    def lease(self, like: Sequence[Tensor]) -> BufferLease:
        """A free set, for tensors like these; other free sets are dropped."""
        pending, free = [], None
        for tensors, last in self._sets:
            lease = last()
            if lease is not None and lease.pending:
                pending.append((tensors, last))
            elif all(_is_compatible(a, b) for a, b in zip(tensors, like, strict=True)):
                free = tensors
        # Tensors created in inference mode cannot be used in training.
        with torch.inference_mode(False):
            tensors = free or [torch.empty_like(t, requires_grad=False) for t in like]
        lease = BufferLease(tensors)
        self._sets = [*pending, (tensors, weakref.ref(lease))]
        return lease


def _is_compatible(buffer: Tensor, tensor: Tensor) -> bool:
    """Whether a buffer still fits after the model was moved or cast."""
    return (buffer.dtype, buffer.device, buffer.stride()) == (
        tensor.dtype,
        tensor.device,
        tensor.stride(),
    )
