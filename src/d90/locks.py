"""One driver a study: locks that a dead driver does not keep."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any, Protocol

from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage

from d90.errors import D90Error

LEASE = "driver"
"""Study attribute that holds the lease."""

LEASE_SECONDS = 60.0
"""A lease not renewed for this long is stale."""

SETTLE_SECONDS = 1.0
"""Wait between writing a lease and reading it back: of two writers, the last one holds it."""

_held: set[str] = set()
"""What this process holds: lock files and lease tokens."""


class Lock(Protocol):
    """The right to drive one study, held between `__enter__` and `__exit__`."""

    def __enter__(self) -> Lock: ...

    def __exit__(self, *exc_info: object) -> None: ...

    def check(self) -> None:
        """Raise D90Error when the lock is not held any more."""
        ...


class FileLock:
    """A POSIX record lock on a file beside an SQLite store.

    The kernel drops it when its process ends, however it ends, and forked children do not inherit
    it: after `kill -9` no data-loading worker keeps the study shut. Such locks do not exclude
    their own process, which `_held` does.

    Args:
        path: the lock file; it stays when the lock is released, since removing it would race.
        study: name of the study, for messages.

    Raises:
        D90Error: on entering, when another driver holds the lock or the file cannot be made.
    """

    def __init__(self, path: Path, study: str) -> None:
        self._path = path.absolute()
        self._study = study
        self._file = -1

    def __enter__(self) -> FileLock:
        if str(self._path) in _held:
            raise busy(self._study, identity())
        try:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise D90Error(
                f"cannot lock study '{self._study}': {self._path}: {error.strerror}; put the "
                "store where you can write."
            ) from error
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = self._owner()
            os.close(self._file)
            raise busy(self._study, owner) from error
        _held.add(str(self._path))
        os.truncate(self._file, 0)
        os.pwrite(self._file, json.dumps(identity()).encode(), 0)
        return self

    def __exit__(self, *exc_info: object) -> None:
        os.close(self._file)
        _held.discard(str(self._path))

    def check(self) -> None:
        """Nothing to check: the kernel keeps the lock as long as this process lives."""

    def _owner(self) -> Mapping[str, Any]:
        try:
            return json.loads(os.pread(self._file, 4096, 0))
        except ValueError:
            return {}


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
        self.check()
        _held.add(self._token)
        self._renewal.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._released.set()
        self._renewal.join()
        _held.discard(self._token)
        if self._mine():
            self._storage.set_study_user_attr(self._study_id, LEASE, None)

    def check(self) -> None:
        """Raise D90Error when another driver has taken the lease."""
        if not self._mine():
            raise busy(self._study, self._read() or {})

    def _keep(self) -> None:
        while not self._released.wait(self._seconds / 4):
            # A database that is away for a moment costs a renewal; for longer, the lease.
            with suppress(StorageInternalError):
                if not self._mine():
                    return
                self._write()

    def _mine(self) -> bool:
        return (self._read() or {}).get("token") == self._token

    def _read(self) -> Mapping[str, Any] | None:
        return self._storage.get_study_user_attrs(self._study_id).get(LEASE)

    def _write(self) -> None:
        lease = identity() | {"token": self._token, "expires": time.time() + self._seconds}
        self._storage.set_study_user_attr(self._study_id, LEASE, lease)


def identity() -> dict[str, Any]:
    """This process, as written into a lock."""
    return {"pid": os.getpid(), "host": socket.gethostname()}


def busy(study: str, owner: Mapping[str, Any]) -> D90Error:
    """The error of the second driver."""
    who = f"process {owner['pid']} on {owner['host']}" if "pid" in owner else "another process"
    return D90Error(
        f"study '{study}' is already being run by {who}: wait for it to end or stop it, then "
        "give the same command again."
    )


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
