"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from d90.errors import DISK_FULL_ERRNOS, disk_full


def atomic_write(path: Path, content: str | bytes) -> None:
    """Write beside the file, then rename: a reader or a crash never sees half of it.

    Raises:
        D90Error: if the disk is full; the old file is then untouched, as always.
        OSError: if the folder cannot be written.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        if error.errno in DISK_FULL_ERRNOS:
            raise disk_full(f"'{path}'", error.errno) from error
        raise
    finally:
        beside.unlink(missing_ok=True)
