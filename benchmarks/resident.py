"""Resident memory of this process, as counted by the Linux kernel."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.cases import Skip

MB = 10**6
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def settle() -> int:
    """Resident bytes after returning free memory to the system."""
    gc.collect()
    _trim()
    return _field("VmRSS")


def peak_of(work: Callable[[], object]) -> int:
    """Peak of resident bytes during the work.

    Raises:
        Skip: the kernel does not let a process reset its peak.
    """
    try:
        _CLEAR.write_text("5")
    except OSError as error:
        raise Skip(f"cannot reset the peak of resident memory: {error}") from error
    work()
    return _field("VmHWM")


def _trim() -> None:
    """Ask the C library to return small free blocks; large ones are returned when freed."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def _field(name: str) -> int:
    if not _STATUS.exists():
        raise Skip("resident memory is read from /proc, which this system lacks")
    lines = _STATUS.read_text().splitlines()
    kilobytes = next(line.split()[1] for line in lines if line.startswith(f"{name}:"))
    return int(kilobytes) * 1024
