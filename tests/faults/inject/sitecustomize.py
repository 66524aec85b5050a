"""Read by every Python that has this folder in its path: signals that take memory away.

SIGUSR1 makes the next update of a run raise what torch raises where a device has no memory left,
SIGUSR2 what Python raises where the machine has none. Once each.
"""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any


def take_memory(number: int, frame: FrameType | None) -> None:
    import torch

    from d90.training.trainer import Trainer

    update = Trainer.optimizer_step

    def without_memory(self: Trainer) -> Any:
        Trainer.optimizer_step = update
        if number == signal.SIGUSR1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        raise MemoryError

    Trainer.optimizer_step = without_memory


signal.signal(signal.SIGUSR1, take_memory)
signal.signal(signal.SIGUSR2, take_memory)
