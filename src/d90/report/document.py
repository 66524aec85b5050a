"""What a report holds: an answer, tables and figures. `html`, `terminal` and `write` show it."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from matplotlib.figure import Figure as Drawing

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
        return [self.headers.get(column, column) for column in self.columns]

    @property
    def cells(self) -> list[list[str]]:
        """The rows as shown."""
        formats = [self.formats.get(column, format_value) for column in self.columns]
        return [
            [show(value) for show, value in zip(formats, row, strict=True)] for row in self.rows
        ]

    @property
    def row_styles(self) -> tuple[RowStyle, ...]:
        """The emphasis of each row."""
        return self.styles or ("",) * len(self.rows)

    @property
    def is_text(self) -> list[bool]:
        """For each column, whether it holds text, which is aligned left."""
        columns = zip(*self.rows, strict=True) if self.rows else [()] * len(self.columns)
        return [any(isinstance(value, str) for value in column) for column in columns]


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
