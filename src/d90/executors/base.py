"""Where trials run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from d90.records import Record, Trial
from d90.training import Progress


class Executor(Protocol):
    """Something that runs one trial at a time and always comes back with a record.

    What goes wrong in a trial (memory, a numerical error) is its record's status, `failed`. Bad
    input (`D90Error`) and an interrupt are raised: no other trial would fare better.
    """

    def run(self, trial: Trial, on_progress: Callable[[Progress], None] | None = None) -> Record:
        """Run a trial; the same trial gives the same record."""
        ...
