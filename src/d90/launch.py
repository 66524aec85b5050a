"""How this process was started: alone, or as one of several by a launcher. No torch here.

`torchrun` and `accelerate launch` tell each process its number and how many there are.
"""

from __future__ import annotations

import os


def rank() -> int:
    """The number of this process, from 0."""
    return int(os.environ.get("RANK", "0")) if launched() > 1 else 0


def launched() -> int:
    """How many processes the launcher started; 1 where there was none."""
    if "RANK" not in os.environ:  # Other programs set WORLD_SIZE alone.
        return 1
    return int(os.environ.get("WORLD_SIZE", "1"))
