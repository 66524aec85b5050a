"""How this process was started: alone, or as one of several by a launcher. No torch here.

`torchrun` and `accelerate launch` tell each process its number and how many there are.
"""

from __future__ import annotations

import os
import sys


def rank() -> int:
    """The number of this process, from 0."""
    return int(os.environ.get("RANK", "0")) if world_size() > 1 else 0


def world_size() -> int:
    """How many processes the launcher started; 1 where there was none."""
    if "RANK" not in os.environ:  # Other programs set WORLD_SIZE alone.
        return 1
    return int(os.environ.get("WORLD_SIZE", "1"))


def destroy_process_group() -> None:
    """Close the connections to the other processes, if there are any.

    A process that ends with them open may die of it, after all its work was done.
    """
    distributed = sys.modules.get("torch.distributed")  # Not loaded: nothing to close.
    if world_size() > 1 and distributed is not None and distributed.is_initialized():
        distributed.destroy_process_group()
