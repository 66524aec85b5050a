"""A disk of a few megabytes, which a test can fill."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PAGE = 4096


@dataclass(frozen=True)
class Disk:
    """A small disk that is mounted at a folder."""

    folder: Path

    @property
    def _filler(self) -> Path:
        return self.folder / "filler"

    def fill(self) -> None:
        """Leave no room at all."""
        with self._filler.open("ab", buffering=0) as file:
            try:
                while True:
                    file.write(b"\0" * PAGE)
            except OSError:
                pass

    def make_room(self) -> None:
        """Take the filler away."""
        self._filler.unlink(missing_ok=True)


def missing() -> str | None:
    """Why no disk can be mounted here, or None."""
    try:
        with small_disk():
            return None
    except (OSError, subprocess.CalledProcessError):
        return "a disk that can be filled needs the right to mount one"


@contextmanager
def small_disk(megabytes: int = 4) -> Iterator[Disk]:
    """A disk in memory, gone with the context.

    Raises:
        OSError, CalledProcessError: this user may not mount one.
    """
    with tempfile.TemporaryDirectory(prefix="d90 disk ") as folder:
        mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder]
        subprocess.run(mount, check=True, capture_output=True)
        try:
            yield Disk(Path(folder))
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)
