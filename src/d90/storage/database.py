"""Databases of stores: opening them, retrying while unreachable, errors in one line."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, RDBStorage, get_storage
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import (
    DBAPIError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    ProgrammingError,
    SQLAlchemyError,
)

from d90.errors import StorageError, disk_full
from d90.utils.files import as_path
from d90.utils.reading import check_encodable
from d90.utils.redact import HIDDEN, is_url, redact_url

T = TypeVar("T")

DATABASE_ERRORS = (SQLAlchemyError, StorageInternalError)
"""Exceptions of a database that fails."""

BUSY_SECONDS = 60
"""How long a statement waits for another process's write to an SQLite file."""

AWAY_SECONDS = 60.0
"""How long a study retries while a database server cannot be reached."""

PAUSE_SECONDS = 0.5
"""Between two attempts."""

DROPPED_SECONDS = 30
"""Either end of a connection is considered dead after this long without a response."""

PROBES, PROBE_SECONDS = 3, 5
"""Number of TCP keepalive probes and their interval, at the end of that time."""

OPENING_ATTEMPTS = 50
"""Several drivers may create one store at once: each collision creates one more table."""

BACKENDS = ("sqlite", "postgresql")

LIBPQ = ("psycopg", "psycopg2")
"""Drivers of PostgreSQL that take libpq's connection parameters."""

_ROOM = 64 * 1024
"""Bytes that SQLite needs to write anything: a disk with less free space is full."""

_log = logging.getLogger(__name__)


def parse_url(url: str | Path) -> URL:
    """The URL of a store; a plain path is an SQLite file, `postgresql://` uses psycopg 3.

    Raises:
        StorageError: not a URL, or of another database than SQLite and PostgreSQL.

    >>> parse_url("postgresql://user@host/d90").drivername
    'postgresql+psycopg'
    """
    if not is_url(str(url)):
        try:
            check_encodable(os.path.abspath(url))
        except ValueError as error:
            raise StorageError(
                f"store '{url}': its path is not UTF-8, as SQLite needs: give another path."
            ) from error
        return URL.create("sqlite", database=os.path.abspath(as_path(url, "store")))
    shown = redact_url(str(url))
    try:
        database = make_url(str(url))
    except (SQLAlchemyError, ValueError):
        database = None
    if database is None or HIDDEN in shown:
        raise StorageError(
            f"store '{shown}' is not a database URL: expected a path or a URL such as "
            "postgresql://user@host/name, with / and @ in a password as %2F and %40."
        )
    if database.drivername in ("postgresql", "postgres"):
        database = database.set(drivername="postgresql+psycopg")
    if database.get_backend_name() not in BACKENDS:
        raise StorageError(
            f"store '{shown}' is neither an SQLite file nor a PostgreSQL "
            "database: give a path or a URL such as postgresql://user@host/name."
        )
    return database


def sqlite_file(database: URL, label: str, *, create: bool) -> Path | None:
    """The file of an SQLite database, with its folder created; None for PostgreSQL.

    Raises:
        StorageError: the path cannot hold a database.
    """
    if database.get_backend_name() != "sqlite":
        return None
    if database.database in (None, "", ":memory:"):
        raise StorageError(f"store '{label}' is in memory and would keep nothing: give a path.")
    # Locks go by it: two links to one file are one store.
    path = Path(os.path.realpath(database.database))
    if path.is_dir():
        raise StorageError(f"store '{label}' is a folder: give the path of a file in it.")
    if path.exists() and not path.is_file():
        raise StorageError(f"store '{label}' is a pipe or a device: give the path of a file.")
    if not path.exists() and not create:
        raise StorageError(f"no store at '{label}': check the path; `d90 measure` makes it.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("rb") if path.exists() else open(os.devnull, "rb") as file:
            start = file.read(16)
    except OSError as error:
        raise StorageError(
            f"cannot open store '{label}': {error.strerror}: {error.filename}."
        ) from error
    if start not in (b"", b"SQLite format 3\0"):
        raise StorageError(f"store '{label}' is not an SQLite database: give another path.")
    return path


def open_storage(database: URL) -> BaseStorage:
    """The storage, with missing tables created.

    Raises:
        StorageError: no driver; a schema of another version.
        SQLAlchemyError: it cannot be reached or written.
    """
    for _ in range(OPENING_ATTEMPTS):
        try:
            return _storage(database)
        except (IntegrityError, OperationalError, ProgrammingError) as error:
            # Another process is creating the same tables.
            if not isinstance(error, IntegrityError) and "already exists" not in str(error):
                raise
            time.sleep(0.1)
    return _storage(database)


def _storage(database: URL) -> BaseStorage:
    url = database.render_as_string(hide_password=False)
    try:
        storage = RDBStorage(
            # The storage fills a template with it, where braces have a meaning.
            url.replace("{", "{{").replace("}", "}}"),
            engine_kwargs=_engine_options(database),
        )
    except ImportError as error:
        what = "it"
        if database.drivername == "postgresql+psycopg":
            what = "'d90[postgres]'"
        raise StorageError(
            f"store '{redact_url(url)}' needs a database driver: pip install {what}."
        ) from error
    except RuntimeError as error:
        # Its schema is of another version of Optuna; the message says how to upgrade.
        raise StorageError(f"store '{redact_url(url)}': {error}") from error
    # As `optuna.create_study` does: finished trials are read from the database only once.
    return get_storage(storage)


def _engine_options(database: URL) -> dict[str, Any]:
    if database.get_backend_name() == "sqlite":
        return {"connect_args": {"timeout": BUSY_SECONDS}}
    # A connection that died while a run was training is replaced before it is used.
    return {"pool_pre_ping": True, "connect_args": connect_arguments(database)}


def connect_arguments(database: URL) -> dict[str, Any]:
    """Options that detect a dead server within `DROPPED_SECONDS`.

    Options in the URL (`?connect_timeout=3`) take precedence.
    """
    if database.get_driver_name() not in LIBPQ:
        return {}
    arguments = {
        "application_name": "d90",
        "connect_timeout": 10,
        "keepalives_idle": DROPPED_SECONDS - PROBES * PROBE_SECONDS,
        "keepalives_interval": PROBE_SECONDS,
        "keepalives_count": PROBES,
        "tcp_user_timeout": 1000 * DROPPED_SECONDS,
    }
    return {name: value for name, value in arguments.items() if name not in database.query}


def retry_while_unreachable(
    action: Callable[[], T], label: str, *, seconds: float = AWAY_SECONDS
) -> T:
    """Call the action, retrying while the database cannot be reached; returns its result.

    Args:
        action: may be called again after a failure with an unknown effect, so its writes must be
            idempotent.
        label: of the store, for messages.
        seconds: how long to retry.

    Raises:
        StorageError: it did not come back in time.
        SQLAlchemyError, StorageInternalError: any other error of the database, at once.
    """
    gone: float | None = None
    while True:
        try:
            result = action()
        except DATABASE_ERRORS as error:
            if not is_unreachable(error):
                raise
            gone = _still_waiting(error, label, gone, seconds)
        else:
            if gone is not None:
                _log.warning("store '%s' answers again: the study goes on.", label)
            return result


def _still_waiting(error: BaseException, label: str, gone: float | None, seconds: float) -> float:
    """When the database was first unreachable, after a pause; StorageError after `seconds`."""
    now = time.monotonic()
    if gone is None:
        gone = now
        _log.warning(
            "store '%s' does not answer (%s): trying again for %.0f seconds.",
            label,
            single_line_cause(error),
            seconds,
        )
    if now - gone >= seconds:
        raise StorageError(
            f"store '{label}' did not answer for {seconds:.0f} seconds: "
            f"{single_line_cause(error)}; when "
            "it can be reached, rerun the command."
        ) from error
    time.sleep(PAUSE_SECONDS)
    return gone


def is_unreachable(error: BaseException) -> bool:
    """Whether a server could not be reached, or its connection broke: it may come back."""
    cause = _cause(error)
    if not isinstance(cause, DBAPIError):
        return False
    return cause.connection_invalidated or isinstance(cause, (OperationalError, InterfaceError))


def single_line_cause(error: BaseException) -> str:
    """The message of the database, without SQL."""
    cause = _cause(error)
    message = str(getattr(cause, "orig", None) or cause).strip() or type(cause).__name__
    return message.splitlines()[0].rstrip(".")


def _cause(error: BaseException) -> BaseException:
    if isinstance(error, StorageInternalError) and error.__cause__ is not None:
        return error.__cause__
    return error


@contextmanager
def single_line_errors(label: str, file: Path | None) -> Iterator[None]:
    """Turn database exceptions into one line that a user can act on.

    Args:
        label: of the store.
        file: of an SQLite store; None for others.
    """
    try:
        yield
    except DATABASE_ERRORS as error:
        what = single_line_cause(error)
        if file is not None and _is_full(file, what):
            raise disk_full(f"store '{file}'", errno.ENOSPC) from error
        raise StorageError(
            f"store '{label}' cannot be used: {what}; check that it can be reached and written."
        ) from error


def _is_full(file: Path, what: str) -> bool:
    """Whether SQLite failed because the disk is full; its message may be `disk I/O error`."""
    if "disk is full" in what:
        return True
    return "disk I/O error" in what and shutil.disk_usage(file.parent).free < _ROOM
