"""The output file, JSON lines, and the table of it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.gpu.part import Figure, Part, Result

_WORDS = {True: "ok", False: "FAILED", None: ""}
_WIDEST = 110


class OutputFile:
    """Results are safe on the disk as they come. An existing file is replaced."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("w", encoding="utf-8")

    def append(self, result: Result) -> None:
        """Write one line and wait until it is on the disk."""
        self._file.write(json.dumps(asdict(result), ensure_ascii=False, default=_plain) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def read(path: Path) -> list[Result]:
    """The results in a file; a last line that was cut is left out."""
    results: list[Result] = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        with suppress(ValueError):
            results.append(Result(**json.loads(text)))
    return results


def table(results: Sequence[Result], parts: Sequence[Part]) -> str:
    """A line for each result, by part, and how many are as expected."""
    names = {part.number: part.name for part in parts}
    numbers = sorted({result.part for result in results})
    lines: list[str] = []
    for number in numbers:
        of_part = [result for result in results if result.part == number]
        seconds = sum(result.seconds for result in of_part)
        lines.append(f"{number}. {names.get(number, '?')} ({seconds:.1f} s)")
        lines += [line(result) for result in of_part]
    return "\n".join([*lines, summary(results)])


def summary(results: Sequence[Result]) -> str:
    """How many results are as expected."""
    checked = [result.ok for result in results if result.ok is not None]
    counts = f"{checked.count(True)} ok, {checked.count(False)} failed"
    return f"{counts}, {len(results) - len(checked)} without a check"


def line(result: Result) -> str:
    """One result for readers; a failure in full."""
    found = figure(result.value)
    aim = f"  [{result.expected}]" if result.expected else ""
    if result.ok is not False:
        found = " ".join(found.split())
        found = found if len(found) <= _WIDEST else found[: _WIDEST - 3] + "..."
    return f"  {_WORDS[result.ok]:6}  {result.name}: {found}{aim}"


def figure(value: Figure | Mapping[str, Figure]) -> str:
    """A value for readers.

    >>> figure({"ms": 0.33333, "launches": 1200, "same": True})
    'ms 0.333, launches 1,200, same yes'
    """
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {figure(part)}" for name, part in value.items())
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3g}" if isinstance(value, float) else value


def _plain(value: Any) -> Any:
    """A number of numpy or a tensor of one number, as JSON."""
    return value.item() if hasattr(value, "item") else str(value)
