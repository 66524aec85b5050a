"""A device of which every read is seen: the meta device, whose tensors have no values.

Whatever waits for a GPU (`item`, `bool`, `torch.equal`, `nonzero`, a copy to the CPU) raises an
error there. Only `tolist` is answered, with ones, and counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

META = torch.device("meta")


@dataclass
class Traffic:
    """What crossed between the host and the device: reads, and copies to the device."""

    reads: int = 0
    copies: int = 0


class _CountCopies(TorchDispatchMode):
    def __init__(self, traffic: Traffic) -> None:
        super().__init__()
        self.traffic = traffic

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten._to_copy.default:
            self.traffic.copies += args[0].device != result.device
        return result


def on_meta(monkeypatch: pytest.MonkeyPatch) -> tuple[Traffic, TorchDispatchMode]:
    """Runs of d90 use the meta device from here on; its traffic is counted inside of the mode."""
    traffic, tolist = Traffic(), Tensor.tolist

    def counted(tensor: Tensor) -> Any:
        if not tensor.is_meta:
            return tolist(tensor)
        traffic.reads += 1
        return torch.ones(tensor.shape, dtype=tensor.dtype).tolist()

    monkeypatch.setattr(Tensor, "tolist", counted)

    def on_cpu(device_type: str, **options: Any) -> torch.amp.autocast:
        return autocast("cpu", **options)

    autocast = torch.autocast
    monkeypatch.setattr(torch, "autocast", on_cpu)  # It does not know the meta device.
    monkeypatch.setattr(Accelerator, "device", META)
    # `to` keeps the parameters of a model, as between a CPU and a GPU.
    monkeypatch.setattr(torch.__future__, "_swap_module_params_on_conversion", True)
    monkeypatch.setattr("d90.training.loop.seed_dropout", lambda seed, device: None)
    return traffic, _CountCopies(traffic)
