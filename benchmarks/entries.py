"""Benchmark results: entries with a value, a unit and an optional target, and their JSON file."""

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
    """One measured value.

    Attributes:
        name: what was measured, for readers; unique within a run.
        value: the median over the repetitions.
        unit: of the value.
        at_most: the target, if there is one.
        low, high: the quartiles over the repetitions, if there were any.
        about: what was measured, for programs: `kind`, `projection`, `d`, `D` and so on.
    """

    name: str
    value: float
    unit: str
    at_most: float | None = None
    low: float | None = None
    high: float | None = None
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Rounded before writing, so that `holds` is about the value that a reader sees.
        for field_name in ("value", "low", "high", "at_most"):
            object.__setattr__(self, field_name, _rounded(getattr(self, field_name)))

    @classmethod
    def of(
        cls, name: str, spread: Spread, unit: str, *, at_most: float | None = None, **about: Any
    ) -> Entry:
        """An entry from a median and its quartiles."""
        return cls(name, spread.value, unit, at_most, spread.low, spread.high, about)

    @property
    def holds(self) -> bool | None:
        """Whether the value meets the target; None without a target."""
        return None if self.at_most is None else self.value <= self.at_most

    def to_json(self) -> dict[str, Any]:
        """A JSON object without empty fields."""
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
        """The inverse of `to_json`."""
        return cls(**{key: value for key, value in fields.items() if key != "holds"})


def _rounded(value: float | None) -> float | None:
    """Round to four significant digits.

    >>> _rounded(1.23456), _rounded(None)
    (1.235, None)
    """
    return None if value is None else float(f"{value:.{DIGITS}g}")


def write(path: Path, entries: Iterable[Entry]) -> None:
    """Write the entries atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps([entry.to_json() for entry in entries], indent=1, ensure_ascii=False)
    atomic_write(path, text + "\n")


def read(path: Path) -> list[Entry]:
    """Read the entries that `write` wrote."""
    return [Entry.from_json(fields) for fields in json.loads(path.read_text(encoding="utf-8"))]


def find(entries: Iterable[Entry], **about: Any) -> list[Entry]:
    """The entries whose `about` has all of these values."""
    return [e for e in entries if all(e.about.get(key) == value for key, value in about.items())]
