"""A case: the unit of the benchmark that runs or is skipped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import psutil

from benchmarks.entries import Entry

MARGIN = 2 * 2**30
"""Bytes of memory that a case leaves available."""


class Skip(Exception):
    """Raised by a case that cannot run on this machine; the message says why."""


@dataclass(frozen=True)
class Case:
    """Entries that are measured together.

    Attributes:
        name: what `--only` matches; it begins with the part of the benchmark.
        run: measures; raises `Skip` if this machine cannot.
    """

    name: str
    run: Callable[[], list[Entry]]


def need_memory(size: int) -> None:
    """Skip unless `size` bytes and a margin are available without swapping."""
    free = psutil.virtual_memory().available
    if size + MARGIN > free:
        raise Skip(
            f"needs {size / 2**30:.1f} GB and {MARGIN / 2**30:.0f} GB to spare: "
            f"{free / 2**30:.1f} GB are available"
        )
