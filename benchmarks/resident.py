"""Resident memory of this process, as the kernel counts it (Linux)."""

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
    """Bytes resident once what is free has been given back to the system."""
    gc.collect()
    _trim()
    return _field("VmRSS")


def peak_of(work: Callable[[], object]) -> int:
    """Most bytes resident at any moment of the work.

    Raises:
        Skip: where the kernel does not let a process reset its peak.
    """
    try:
        _CLEAR.write_text("5")
    except OSError as problem:
        raise Skip(f"cannot reset the peak of resident memory: {problem}") from problem
    work()
    return _field("VmHWM")


def _trim() -> None:
    """Large blocks go back to the system by themselves, small ones when the C library is asked."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def _field(name: str) -> int:
    if not _STATUS.exists():
        raise Skip("resident memory is read from /proc, which is not here")
    lines = _STATUS.read_text().splitlines()
    kilobytes = next(line.split()[1] for line in lines if line.startswith(f"{name}:"))
    return int(kilobytes) * 1024
