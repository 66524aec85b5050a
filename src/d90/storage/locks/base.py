"""The interface of locks, and their errors."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Any, Protocol

from d90.errors import StudyLockedError

DRIVER = "driver"
"""Study attribute that identifies the driver: process, host, and a token of this session."""


class Lock(Protocol):
    """The right to run or write something alone, held between `__enter__` and `__exit__`."""

    def __enter__(self) -> Lock: ...

    def __exit__(self, *exc_info: object) -> None: ...

    def check(self) -> None:
        """Raise StudyLockedError if the lock is no longer held."""
        ...


def identity() -> dict[str, Any]:
    """This process, as recorded in a lock."""
    return {"pid": os.getpid(), "host": socket.gethostname()}


def busy(what: str, owner: Mapping[str, Any]) -> StudyLockedError:
    """The error of the second process.

    >>> print(busy("study 'mrpc'", {"pid": 7, "host": "tower"}))
    study 'mrpc' is already being run by process 7 on tower: wait for it to end or stop it, then \
rerun the command.
    """
    return StudyLockedError(
        f"{what} is already being run by {_who(owner)}: wait for it to end or stop it, then rerun "
        "the command."
    )


def taken_over(study: str, owner: Mapping[str, Any]) -> StudyLockedError:
    """The error of a driver that lost its lock to another one."""
    return StudyLockedError(
        f"study '{study}' was taken over by {_who(owner)} after this one had lost its lock: this "
        "one stops; rerun the command when the other has ended."
    )


def _who(owner: Mapping[str, Any]) -> str:
    return f"process {owner['pid']} on {owner['host']}" if "pid" in owner else "another process"
