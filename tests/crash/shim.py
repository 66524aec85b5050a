"""The library that ends a process at a call to the file system, and the log of such calls."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

KILLED = 137
"""Exit code of a process that it ended."""

SOURCE = Path(__file__).with_name("shim.c")


@dataclass(frozen=True)
class Call:
    """A call that changes files.

    Attributes:
        kind: `create`, `write`, `sync`, `rename` or `unlink`.
        path: relative to the folder that is watched; `.` is the folder itself.
        target: of a rename.
        inode: of the file, which may have been renamed unseen; 0 where it is not there yet.
    """

    kind: str
    path: str
    target: str = ""
    inode: int = 0


def missing() -> str | None:
    """Why it cannot be built here; None if it can."""
    if sys.platform != "linux":
        return "LD_PRELOAD works so on Linux only"
    return None if _compiler() else "no C compiler"


def build(folder: Path) -> Path:
    """Compile the library."""
    library = folder / "crash.so"
    compiler = _compiler()
    assert compiler is not None
    command = [compiler, "-O1", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"]
    subprocess.run(command, check=True)
    return library


def arm(folder: Path, log: Path, *, at: int | None = None, torn: bool = False) -> None:
    """Watch a folder from now on, in this process, which was started with the library preloaded.

    Args:
        folder: what lies in it counts.
        log: every call is written there.
        at: the number, from 1 on, of the call after which the process ends; None for no end.
        torn: of that call, if it writes, only the first half of the bytes is written.
    """
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    root = os.fsencode(os.path.realpath(folder))
    crash_arm = ctypes.CDLL(None).crash_arm
    crash_arm(root, ctypes.c_long(-1 if at is None else at), int(torn), descriptor)


def read_log(log: Path, folder: Path) -> list[Call]:
    """The calls of a process, in order."""
    root = os.path.realpath(folder)
    calls = []
    for line in log.read_text().splitlines():
        kind, inode, *paths = line.split("\t")
        path, target = (os.path.relpath(path, root) if path else "" for path in paths)
        calls.append(Call(kind, path, target, int(inode)))
    return calls


def _compiler() -> str | None:
    return next(filter(None, map(shutil.which, (os.environ.get("CC", "cc"), "gcc", "clang"))), None)
