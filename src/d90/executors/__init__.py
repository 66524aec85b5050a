"""Where trials run: in this process, or in several on this machine."""

from __future__ import annotations

from d90.errors import D90Error, unknown
from d90.executors.base import Executor
from d90.executors.here import Here
from d90.executors.local import LocalExecutor
from d90.executors.processes import Processes

__all__ = ["EXECUTORS", "Executor", "Here", "LocalExecutor", "Processes", "make"]

EXECUTORS = ("local", "processes")


def make(name: str, trainer: LocalExecutor, *, workers: int | None = None) -> Executor:
    """The executor of that name.

    Args:
        name: one of `EXECUTORS`.
        trainer: what runs a trial, loaded in this process.
        workers: trials at once (`processes` only); one a core where None.

    Raises:
        D90Error: an unknown name, or a number of workers that it cannot have.
    """
    if name not in EXECUTORS:
        raise unknown("executor", name, EXECUTORS)
    if workers is not None and workers < 1:
        raise D90Error(f"workers {workers}: expected at least 1.")
    if name == "processes":
        return Processes(trainer, workers)
    if workers not in (None, 1):
        raise D90Error(
            f"workers {workers}: the executor 'local' runs one trial at a time; choose 'processes'."
        )
    return Here(trainer)
