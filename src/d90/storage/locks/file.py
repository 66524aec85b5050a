"""A lock on a file: the kernel drops it when its process ends, however it ends."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from d90.errors import DISK_FULL_ERRNOS, D90Error, StorageError, disk_full
from d90.storage.locks.base import busy, identity
from d90.utils.reading import check_keys, parse_json

_held: set[str] = set()
"""Lock files that this process holds."""

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC

_MAX_OWNER = 4096
"""Bytes that are read of a lock file."""


class FileLock:
    """A POSIX record lock on a file, such as one beside an SQLite store.

    The kernel releases it when its process ends, however it ends, and forked children do not
    inherit it: after `kill -9`, no data-loading worker keeps the study locked. Such locks do not
    exclude their own process; `_held` does.

    Args:
        path: the lock file; it is removed on release.
        what: it locks, for messages: `study 'mrpc'`.

    Raises:
        StudyLockedError: on entering, when another process holds the lock.
        StorageError: on entering, when the file cannot be created or locked.
    """

    def __init__(self, path: Path, what: str) -> None:
        self._path = path.absolute()
        self._what = what
        self._file, self._process = -1, 0

    def __enter__(self) -> FileLock:
        if str(self._path) in _held:
            raise busy(self._what, identity())
        try:
            while not self._take():
                pass
            self._write(json.dumps(identity()).encode())
        except OSError as error:
            raise self._refused(error) from error
        self._process = os.getpid()
        _held.add(str(self._path))
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._process == os.getpid():  # A forked child does not hold the lock.
            self._release()
            _held.discard(str(self._path))

    def check(self) -> None:
        """Nothing to check: the kernel keeps the lock as long as this process lives."""

    def _take(self) -> bool:
        """Lock the file at the path; False if the process that held it has just removed it."""
        self._file = os.open(self._path, _FLAGS, 0o666)
        try:
            opened = os.fstat(self._file)
            if not stat.S_ISREG(opened.st_mode):
                raise OSError(errno.EINVAL, "it is no file")
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(opened, self._path.lstat()):
                return True
        except FileNotFoundError:
            pass
        except OSError as error:
            owner = _owner(os.pread(self._file, _MAX_OWNER, 0)) if _is_taken(error) else None
            os.close(self._file)
            if owner is None:
                raise
            raise busy(self._what, owner) from error
        os.close(self._file)
        return False

    def _write(self, content: bytes) -> None:
        try:
            os.truncate(self._file, 0)
            os.pwrite(self._file, content, 0)
        except OSError:
            self._release()
            raise

    def _release(self) -> None:
        # Removed while it is locked: whoever has opened it sees in `_take` that it is gone.
        with suppress(OSError):
            self._path.unlink()
        os.close(self._file)

    def _refused(self, error: OSError) -> StorageError:
        if error.errno in DISK_FULL_ERRNOS:
            return disk_full(f"lock '{self._path}'", error.errno)
        return StorageError(
            f"cannot lock {self._what}: '{self._path}': {error.strerror}: choose a folder where "
            "you can write."
        )


def _is_taken(error: OSError) -> bool:
    return error.errno in (errno.EACCES, errno.EAGAIN)


def _owner(content: bytes) -> Mapping[str, Any]:
    """Who holds the lock, as its file says; nothing if that is damaged."""
    try:
        types = {"pid": int, "host": str}
        return check_keys(parse_json(content, "lock"), types, [*types], "lock")
    except D90Error:
        return {}
