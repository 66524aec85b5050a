"""What a driver wants of an executor."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol

from d90.records import Record, Trial
from d90.training import Progress

OnProgress = Callable[[Progress], None]


class Executor(Protocol):
    """Runs trials, at most `workers` of them at once; a context that ends what still runs."""

    @property
    def workers(self) -> int:
        """How many trials run at once."""
        ...

    def __enter__(self) -> Executor: ...

    def __exit__(self, *error: object) -> None: ...

    def submit(self, trial: Trial, on_progress: OnProgress) -> Future[Record]:
        """Start a trial. Progress may be told from another thread.

        A trial that raises gives a record that says so (`failed`); the future itself raises only
        what ends the study.
        """
        ...
