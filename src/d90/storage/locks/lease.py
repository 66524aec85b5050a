"""The lock of databases that know no better one: a lease that its driver renews."""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from threading import Event, Thread
from typing import Any

from optuna.storages import BaseStorage

from d90.storage.database import DATABASE_ERRORS
from d90.storage.locks.base import DRIVER, busy, identity, taken_over

LEASE_SECONDS = 60.0
"""A lease not renewed for this long is stale."""

SETTLE_SECONDS = 1.0
"""Wait between writing a lease and reading it back: of two writers, the last one holds it."""

_held: set[str] = set()
"""Tokens of the leases that this process holds."""


class LeaseLock:
    """A lease in the attributes of the study, for databases that drivers reach from many hosts.

    A daemon thread renews it every quarter of its 60 seconds. It is free for the taking when it
    was not renewed in time, or at once when its process is known to be dead: on the same host.
    A database attribute has no compare-and-set, so the lease is read back after a second (of two
    simultaneous writers the last one holds it) and checked again before every trial. Expiry
    compares clocks of two hosts: they should agree within a few seconds.

    Args:
        storage: where the study is.
        study_id: its id in the storage.
        study: its name, for messages.
        seconds: time without renewal after which the lease is stale.
        settle: time before it is read back.

    Raises:
        D90Error: on entering, when another driver holds the lease.
    """

    def __init__(
        self,
        storage: BaseStorage,
        study_id: int,
        study: str,
        *,
        seconds: float = LEASE_SECONDS,
        settle: float = SETTLE_SECONDS,
    ) -> None:
        self._storage = storage
        self._study_id = study_id
        self._study = study
        self._seconds = seconds
        self._settle = settle
        self._token = uuid.uuid4().hex
        self._released = Event()
        self._renewal = Thread(target=self._keep, name=f"lease of {study}", daemon=True)

    def __enter__(self) -> LeaseLock:
        owner = self._read()
        if owner and _alive(owner):
            raise busy(self._study, owner)
        self._write()
        time.sleep(self._settle)
        if not self._mine():
            raise busy(self._study, self._read() or {})
        _held.add(self._token)
        self._renewal.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._released.set()
        self._renewal.join()
        _held.discard(self._token)
        # A database that is away now keeps the lease until it is stale.
        with suppress(*DATABASE_ERRORS):
            if self._mine():
                self._storage.set_study_user_attr(self._study_id, DRIVER, None)

    def check(self) -> None:
        """Raise D90Error when another driver has taken the lease."""
        if not self._mine():
            raise taken_over(self._study, self._read() or {})

    def _keep(self) -> None:
        while not self._released.wait(self._seconds / 4):
            # A database that is away for a moment costs a renewal; for longer, the lease.
            with suppress(*DATABASE_ERRORS):
                if not self._mine():
                    return
                self._write()

    def _mine(self) -> bool:
        return (self._read() or {}).get("token") == self._token

    def _read(self) -> Mapping[str, Any] | None:
        return self._storage.get_study_user_attrs(self._study_id).get(DRIVER)

    def _write(self) -> None:
        lease = identity() | {"token": self._token, "expires": time.time() + self._seconds}
        self._storage.set_study_user_attr(self._study_id, DRIVER, lease)


def _alive(owner: Mapping[str, Any]) -> bool:
    """Whether a lease still binds: renewed in time, and its process not known to be dead."""
    if owner["expires"] < time.time():
        return False
    if owner["host"] != socket.gethostname():
        return True
    if owner["pid"] == os.getpid():
        # The same id after a restart of the machine or container is not the same process.
        return owner["token"] in _held
    try:
        os.kill(owner["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
