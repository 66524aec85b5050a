"""Files and folders that are written atomically."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from d90.errors import DISK_FULL_ERRNOS, disk_full


def atomic_write(path: Path, content: str | bytes) -> None:
    """Write a file beside `path` and rename it: a reader or a crash never sees part of it.

    Raises:
        D90Error: if the disk is full; the old file is then unchanged.
        OSError: if the folder cannot be written.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    # Two processes may write the same report.
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with _renamed(beside, path) as partial, partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A path beside `path` at which to make a file or a folder; it is renamed when the block ends.

    If the block raises, it is removed. What a killed process left there is removed first, so only
    one process at a time may write `path`. A folder replaces only an empty one.

    Raises:
        D90Error: if the disk is full; what was at `path` is then unchanged.
        OSError: if the folder cannot be written.
    """
    with _renamed(path.with_name(f".{path.name}.partial"), path) as partial:
        yield partial


@contextmanager
def _renamed(partial: Path, path: Path) -> Iterator[Path]:
    _remove(partial)
    try:
        yield partial
        os.replace(partial, path)
    except Exception as error:
        if (number := _disk_full_errno(error)) is not None:
            raise disk_full(f"'{path}'", number) from error
        raise
    finally:
        _remove(partial)


def _disk_full_errno(error: Exception) -> int | None:
    """The number of a full disk's error; safetensors gives it only in its message."""
    if isinstance(error, OSError) and error.errno in DISK_FULL_ERRNOS:
        return error.errno
    if f"os error {errno.ENOSPC}" in str(error):
        return errno.ENOSPC
    return None


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
