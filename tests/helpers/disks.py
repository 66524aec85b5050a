"""A disk of a few megabytes that a test can fill."""

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
    """A small disk mounted at a folder."""

    folder: Path

    @property
    def _filler(self) -> Path:
        return self.folder / "filler"

    def fill(self) -> None:
        """Fill the disk completely."""
        with self._filler.open("ab", buffering=0) as file:
            try:
                while True:
                    file.write(b"\0" * PAGE)
            except OSError:
                pass

    def make_room(self) -> None:
        """Free the space again."""
        self._filler.unlink(missing_ok=True)


def missing() -> str | None:
    """Why no disk can be mounted on this machine, or None."""
    try:
        with small_disk():
            return None
    except (OSError, subprocess.CalledProcessError):
        return "needs permission to mount a file system"


@contextmanager
def small_disk(megabytes: int = 4) -> Iterator[Disk]:
    """A disk in memory that is unmounted with the context.

    Raises:
        OSError, CalledProcessError: this user may not mount a file system.
    """
    with tempfile.TemporaryDirectory(prefix="d90 disk ") as folder:
        mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder]
        subprocess.run(mount, check=True, capture_output=True)
        try:
            yield Disk(Path(folder))
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)
