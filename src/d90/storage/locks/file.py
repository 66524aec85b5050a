"""The lock of an SQLite store: the kernel drops it when the driver ends, however it ends."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from d90.errors import DISK_FULL_ERRNOS, StorageError, disk_full
from d90.storage.locks.base import busy, identity

_held: set[str] = set()
"""Lock files that this process holds."""


class FileLock:
    """A POSIX record lock on a file beside an SQLite store.

    The kernel releases it when its process ends, however it ends, and forked children do not
    inherit it: after `kill -9`, no data-loading worker keeps the study locked. Such locks do not
    exclude their own process; `_held` does.

    Args:
        path: the lock file; it is not removed on release, which would be a race.
        study: name of the study, for messages.

    Raises:
        StudyLockedError: on entering, when another driver holds the lock.
        StorageError: on entering, when the file cannot be created.
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
            raise self._refused(error) from error
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = self._owner()
            os.close(self._file)
            raise busy(self._study, owner) from error
        try:
            os.truncate(self._file, 0)
            os.pwrite(self._file, json.dumps(identity()).encode(), 0)
        except OSError as error:
            os.close(self._file)
            raise self._refused(error) from error
        _held.add(str(self._path))
        return self

    def __exit__(self, *exc_info: object) -> None:
        os.close(self._file)
        _held.discard(str(self._path))

    def check(self) -> None:
        """Nothing to check: the kernel keeps the lock as long as this process lives."""

    def _refused(self, error: OSError) -> StorageError:
        if error.errno in DISK_FULL_ERRNOS:
            return disk_full(f"lock '{self._path}'", error.errno)
        return StorageError(
            f"cannot lock study '{self._study}': {self._path}: {error.strerror}; put the "
            "store where you can write."
        )

    def _owner(self) -> Mapping[str, Any]:
        try:
            return json.loads(os.pread(self._file, 4096, 0))
        except ValueError:
            return {}
