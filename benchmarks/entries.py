"""What a benchmark found: entries with a value, a unit and maybe a bar, and the file of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.timing import Spread
from d90.utils.files import atomic_write

DIGITS = 4
"""Significant digits of a value in the file."""


@dataclass(frozen=True)
class Entry:
    """One measured number.

    Attributes:
        name: what was measured, in words; no two entries of a run share it.
        value: the median over the repetitions.
        unit: of the value.
        at_most: the bar, where there is one.
        low, high: the quartiles over the repetitions, where there were any.
        about: the same as the name, for programs: `kind`, `projection`, `d`, `D` and the like.
    """

    name: str
    value: float
    unit: str
    at_most: float | None = None
    low: float | None = None
    high: float | None = None
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Rounded here and not in the file, so that `holds` is about the number a reader sees.
        for number in ("value", "low", "high", "at_most"):
            object.__setattr__(self, number, _rounded(getattr(self, number)))

    @classmethod
    def of(
        cls, name: str, found: Spread, unit: str, *, at_most: float | None = None, **about: Any
    ) -> Entry:
        """The entry of a median and its quartiles."""
        return cls(name, found.value, unit, at_most, found.low, found.high, about)

    @property
    def holds(self) -> bool | None:
        """Whether the value is within the bar; None without a bar."""
        return None if self.at_most is None else self.value <= self.at_most

    def as_json(self) -> dict[str, Any]:
        """Without the fields that say nothing."""
        fields = {
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "at_most": self.at_most,
            "holds": self.holds,
            "low": self.low,
            "high": self.high,
            "about": dict(self.about),
        }
        return {key: value for key, value in fields.items() if value is not None and value != {}}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Entry:
        """The inverse of `as_json`."""
        return cls(**{key: value for key, value in fields.items() if key != "holds"})


def _rounded(value: float | None) -> float | None:
    """To four significant digits.

    >>> _rounded(1.23456), _rounded(None)
    (1.235, None)
    """
    return None if value is None else float(f"{value:.{DIGITS}g}")


def write(path: Path, entries: Iterable[Entry]) -> None:
    """Write all entries, or leave the file as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps([entry.as_json() for entry in entries], indent=1, ensure_ascii=False)
    atomic_write(path, text + "\n")


def read(path: Path) -> list[Entry]:
    """The entries of a file that `write` made."""
    return [Entry.from_json(fields) for fields in json.loads(path.read_text(encoding="utf-8"))]


def find(entries: Iterable[Entry], **about: Any) -> list[Entry]:
    """Those whose `about` has all of these values."""
    return [e for e in entries if all(e.about.get(key) == value for key, value in about.items())]
