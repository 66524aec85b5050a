"""What a report holds: an answer, tables and figures. `html`, `terminal` and `write` show it."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from matplotlib.figure import Figure as Drawing

from d90.report import wording

Value = str | int | float | None

RowStyle = Literal["", "best", "failed"]


def format_value(value: Value) -> str:
    """A value as the page and the terminal show it.

    >>> [format_value(value) for value in (1203, 0.80147, 1e-5, "trivial", None)]
    ['1,203', '0.801', '1e-05', 'trivial', '–']
    """
    if value is None:
        return "–"
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3f}" if 0.001 <= abs(value) < 1e6 or value == 0 else f"{value:.3g}"


def format_dimension(value: Value) -> str:
    """A d; None is full fine-tuning."""
    return wording.format_d(None if value is None else float(value))


def format_rate(value: Value) -> str:
    """A learning rate; a dash where there is none."""
    return "–" if value is None else f"{float(value):g}"


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        name: of its CSV file, without the suffix; None for no file.
        title: above it.
        columns: their names, the header of the CSV file.
        rows: integers, floats, text, or None for a missing value.
        note: below it.
        terminal_rows: maximum number of rows shown in the terminal; None for all of them.
        headers: column -> header on the page and in the terminal, where it is not the name.
        formats: column -> how its values are shown, where it is not `format_value`.
        intervals: column of d90 -> the columns with the ends of its interval, which the page and
            the terminal show behind it, as in `160 (105-253)`.
        styles: the emphasis of each row; empty for none.
    """

    name: str | None
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]
    note: str = ""
    terminal_rows: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    formats: Mapping[str, Callable[[Value], str]] = field(default_factory=dict)
    intervals: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    styles: tuple[RowStyle, ...] = ()

    def csv(self) -> str:
        """The rows as CSV, floats in full precision."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(self.rows)
        return out.getvalue()

    @property
    def header(self) -> list[str]:
        """The headers as shown."""
        return [self.headers.get(self.columns[i], self.columns[i]) for i in self._shown]

    @property
    def cells(self) -> list[list[str]]:
        """The rows as shown."""
        return [[self._cell(row, i) for i in self._shown] for row in self.rows]

    def _cell(self, row: Sequence[Value], i: int) -> str:
        column = self.columns[i]
        text = self.formats.get(column, format_value)(row[i])
        ends = [row[self.columns.index(end)] for end in self.intervals.get(column, ())]
        if all(end is None for end in ends):
            return text
        low, high = (None if end is None else float(end) for end in ends)
        return f"{text} ({wording.format_interval(low, high, joint='-')})"

    @property
    def _shown(self) -> list[int]:
        """The columns as shown: those of the ends of intervals are not."""
        ends = {end for ends in self.intervals.values() for end in ends}
        return [i for i, column in enumerate(self.columns) if column not in ends]

    @property
    def row_styles(self) -> tuple[RowStyle, ...]:
        """The emphasis of each row."""
        return self.styles or ("",) * len(self.rows)

    @property
    def is_text(self) -> list[bool]:
        """For each column as shown, whether it holds text, which is aligned left."""
        return [any(isinstance(row[i], str) for row in self.rows) for i in self._shown]


@dataclass(frozen=True)
class Figure:
    """A figure.

    Attributes:
        name: of its files, without the suffix.
        caption: below it.
        alt_text: what it shows, for readers who cannot see it.
        draw: makes it, in the style of `d90.report.plotting`.
    """

    name: str
    caption: str
    alt_text: str
    draw: Callable[[], Drawing]


@dataclass(frozen=True)
class Document:
    """A report on one study or on several.

    Attributes:
        title: what it is about.
        answer: the result, in one line.
        sentences: what the result means, one paragraph each.
        warnings: what to know before using it.
        tables, figures: in their order on the page.
        links: (text, relative address) of the reports that it is based on.
        command: the command that produced it.
    """

    title: str
    answer: str
    sentences: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    command: str = ""


def links_to(names: Sequence[str], folder: str = "studies") -> tuple[tuple[str, str], ...]:
    """Links to the reports in a folder beside the page."""
    return tuple((name, f"{folder}/{name}/index.html") for name in names)
