"""How this process was started: alone, or as one of several by a launcher. No torch here.

`torchrun` and `accelerate launch` tell each process its number and how many there are.
"""

from __future__ import annotations

import os
import sys

from d90.errors import D90Error


def rank() -> int:
    """The number of this process, from 0."""
    number = _number("RANK") or 0
    return number if number < world_size() else 0


def world_size() -> int:
    """How many processes the launcher started; 1 where there was none."""
    if "RANK" not in os.environ:  # Other programs set WORLD_SIZE alone.
        return 1
    return _number("WORLD_SIZE") or 1


def check_launch() -> None:
    """Check what a launcher told this process.

    Raises:
        D90Error: the number of this process or that of all is missing or none.
    """
    if "RANK" not in os.environ:
        return
    rank, size = _number("RANK"), _number("WORLD_SIZE", "1")
    if rank is None or not size or rank >= size:
        raise D90Error(
            f"RANK is '{os.environ['RANK']}' and WORLD_SIZE '{os.environ.get('WORLD_SIZE', '')}': "
            "start d90 with torchrun or accelerate launch, or unset them."
        )


def check_address() -> None:
    """Check that the launcher told the address of rank 0, which several processes need.

    Raises:
        D90Error: it did not.
    """
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        if not os.environ.get(name):
            raise D90Error(f"{name} is not set: start d90 with torchrun or accelerate launch.")


def _number(name: str, default: str = "") -> int | None:
    """A whole number in the environment; None for anything else."""
    text = os.environ.get(name, default)
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def destroy_process_group() -> None:
    """Close the connections to the other processes, if there are any.

    A process that ends with them open may die of it, after all its work was done.
    """
    distributed = sys.modules.get("torch.distributed")  # Not loaded: nothing to close.
    if world_size() > 1 and distributed is not None and distributed.is_initialized():
        distributed.destroy_process_group()
