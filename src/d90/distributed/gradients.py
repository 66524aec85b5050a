"""The all-reduce of gradients, once per optimizer step."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from d90.distributed.process_group import ProcessGroup


class GradientSync:
    """Sums the gradients of parameters over all processes, in one all-reduce.

    Args:
        parameters: the trainable parameters, the same in every process.
        process_group: the processes.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], process_group: ProcessGroup) -> None:
        self._parameters, self._process_group = list(parameters), process_group
        self._used: list[bool] | None = None

    def all_reduce(self, loss: Tensor) -> Tensor:
        """Sum the gradients, in place, and the loss, which is returned; all get the same bits.

        A process without rows contributes zeros.
        """
        if self._process_group.world_size == 1:
            return loss
        used = self._with_gradient()
        dtype = loss.dtype
        for parameter in used:
            dtype = torch.promote_types(dtype, parameter.dtype)
        parts = [
            torch.zeros_like(p, dtype=dtype) if p.grad is None else p.grad.to(dtype) for p in used
        ]
        vector = torch.cat([*(part.flatten() for part in parts), loss.to(dtype).flatten()])
        self._process_group.all_reduce_sum(vector)
        *sums, total = vector.split([*(p.numel() for p in used), 1])
        for parameter, part in zip(used, sums, strict=True):
            parameter.grad = part.view_as(parameter).to(parameter.dtype)
        return total.view(()).to(loss.dtype)

    def _with_gradient(self) -> list[nn.Parameter]:
        if self._used is None:
            self._used = self._find_used()
        flagged = list(zip(self._parameters, self._used, strict=True))
        if any(p.grad is not None for p, used in flagged if not used):
            raise RuntimeError("a parameter got its first gradient after the first optimizer step")
        return [p for p, used in flagged if used]

    def _find_used(self) -> list[bool]:
        """Which parameters have a gradient in any process; communicated once.

        The others must have none in all: an optimizer skips them, but would decay a parameter
        whose gradient is zero.
        """
        flags = [parameter.grad is not None for parameter in self._parameters]
        vector = torch.tensor(flags, dtype=torch.uint8, device=self._process_group.device)
        self._process_group.all_reduce_max(vector)
        return [bool(flag) for flag in vector.tolist()]
