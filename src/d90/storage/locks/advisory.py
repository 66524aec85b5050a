"""The lock of PostgreSQL: the server drops it when the connection of its driver ends."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from threading import Event, Lock, Thread
from typing import Any

from optuna.storages import BaseStorage
from sqlalchemy import Connection, NullPool, create_engine, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from d90.errors import StudyLockedError
from d90.storage.database import (
    DATABASE_ERRORS,
    DROPPED_SECONDS,
    PROBE_SECONDS,
    PROBES,
    connect_arguments,
)
from d90.storage.locks.base import DRIVER, busy, identity, taken_over

WATCH_SECONDS = 15.0
"""How often the connection is checked while no trial starts or ends."""

ENDING_SECONDS = 2.0
"""How long the server may take to notice that a driver on a living host is dead."""

# Set on the server too: a host that lost power closes no connection.
KEEPALIVE = (
    f"SET tcp_keepalives_idle = {DROPPED_SECONDS - PROBES * PROBE_SECONDS}",
    f"SET tcp_keepalives_interval = {PROBE_SECONDS}",
    f"SET tcp_keepalives_count = {PROBES}",
)

TAKE = text("SELECT pg_try_advisory_lock(:key)")

HELD = text(
    "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted"
    " AND pid = pg_backend_pid() AND objsubid = 1"
    " AND (classid::bigint << 32) + objid::bigint = :key)"
)


class AdvisoryLock:
    """A session-level advisory lock, on a connection of its own.

    The server drops it when the connection ends: at once when the driver dies, within 30 seconds
    when its host does. No clocks are compared. A driver loses the lock if its connection
    breaks. It acquires the lock again at its next check, at most 15 seconds later, unless another
    driver has held it in between, whose token is then in the study's attributes.

    Such a lock does not work through a pooler that gives every transaction another connection.

    Args:
        database: the server.
        storage: the store on it, for the attribute that identifies the driver.
        study_id: the study's id in the storage.
        study: name of the study.
        watch: seconds between checks of the connection.

    Raises:
        StudyLockedError: on entering, when another driver holds the lock.
    """

    def __init__(
        self,
        database: URL,
        storage: BaseStorage,
        study_id: int,
        study: str,
        *,
        watch: float = WATCH_SECONDS,
    ) -> None:
        arguments = {**connect_arguments(database), "application_name": f"d90 {study}"[:63]}
        self._engine = create_engine(
            database, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args=arguments
        )
        self._storage, self._study_id, self._study = storage, study_id, study
        self._key = lock_key(study)
        self._token = uuid.uuid4().hex
        self._connection: Connection | None = None
        self._mutex = Lock()
        self._released = Event()
        self._watch_seconds = watch
        self._watch = Thread(target=self._watch_connection, name=f"lock of {study}", daemon=True)

    def __enter__(self) -> AdvisoryLock:
        deadline = time.monotonic() + ENDING_SECONDS
        while not self._take():
            if time.monotonic() > deadline:
                self._drop()
                raise busy(f"study '{self._study}'", self._owner())
            time.sleep(0.1)
        owner = identity() | {"token": self._token}
        self._storage.set_study_user_attr(self._study_id, DRIVER, owner)
        self._watch.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._released.set()
        self._watch.join()
        with suppress(*DATABASE_ERRORS):
            if self._connection is not None and self._is_mine():
                self._storage.set_study_user_attr(self._study_id, DRIVER, None)
        self._drop()

    def check(self) -> None:
        """Check that the lock is held; acquire it again if its connection broke.

        Raises:
            StudyLockedError: another driver holds it, or has held it since.
            SQLAlchemyError, StorageInternalError: the server does not answer.
        """
        with self._mutex:
            if not self._holds():
                self._take_again()

    def _take_again(self) -> None:
        # The server may not have noticed yet that the connection with the lock is dead.
        deadline = time.monotonic() + DROPPED_SECONDS + ENDING_SECONDS
        while True:
            taken = self._take()
            # Checked while the lock is held: no other driver can come and go in between.
            if not self._is_mine() or (not taken and time.monotonic() > deadline):
                self._drop()
                raise taken_over(self._study, self._owner())
            if taken or self._released.wait(0.2):
                return

    def _watch_connection(self) -> None:
        while not self._released.wait(self._watch_seconds):
            try:
                self.check()
            except StudyLockedError:
                return  # The driver's next write raises it.
            except DATABASE_ERRORS:
                continue

    def _take(self) -> bool:
        if self._connection is None:
            self._connection = self._engine.connect()
        try:
            for statement in KEEPALIVE:
                self._connection.execute(text(statement))
            return bool(self._connection.scalar(TAKE, {"key": self._key}))
        except DBAPIError:
            self._drop()
            raise

    def _holds(self) -> bool:
        if self._connection is None:
            return False
        try:
            return bool(self._connection.scalar(HELD, {"key": self._key}))
        except DBAPIError:
            self._drop()
            return False

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(DBAPIError):
                connection.close()

    def _is_mine(self) -> bool:
        return self._owner().get("token") == self._token

    def _owner(self) -> Mapping[str, Any]:
        return self._storage.get_study_user_attrs(self._study_id).get(DRIVER) or {}


def lock_key(study: str) -> int:
    """The key of a study's lock in its database: 63 bits of the SHA-256 of its name."""
    return int.from_bytes(hashlib.sha256(f"d90 {study}".encode()).digest()[:8], "big") >> 1
