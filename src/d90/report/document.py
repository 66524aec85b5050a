"""Tables and figures of several studies on one page, and as files."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup
from matplotlib.figure import Figure as Drawing
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table as TerminalTable
from rich.text import Text

from d90.errors import D90Error
from d90.report import plotting
from d90.report.html import TEMPLATES, inline
from d90.utils.files import atomic_write

Value = str | int | float | None


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        name: of its file, without the ending.
        title: above it.
        columns: their headers.
        rows: whole numbers, numbers, words, or None where there is nothing.
        note: below it.
        terminal: whether the terminal shows it too.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]
    note: str = ""
    terminal: bool = True

    def csv(self) -> str:
        """Its rows in full: reading them back gives the same numbers."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(self.rows)
        return out.getvalue()

    @property
    def cells(self) -> list[list[str]]:
        """Its rows in words."""
        return [[format_value(value) for value in row] for row in self.rows]

    @property
    def lefts(self) -> list[bool]:
        """Which columns are of words, and stand to the left."""
        columns = zip(*self.rows, strict=True) if self.rows else [()] * len(self.columns)
        return [any(isinstance(value, str) for value in column) for column in columns]


@dataclass(frozen=True)
class Figure:
    """A figure.

    Attributes:
        name: of its files, without the ending.
        caption: below it.
        alternative: what it shows, for readers who cannot see it.
        draw: makes it, in the style of `d90.report.plotting`.
    """

    name: str
    caption: str
    alternative: str
    draw: Callable[[], Drawing]


@dataclass(frozen=True)
class Document:
    """A report on several studies.

    Attributes:
        title: what it is about.
        answer: what was found, in a line.
        sentences: what it means, a paragraph each.
        warnings: what to know before using it.
        tables, figures: in their order on the page.
        links: (words, relative address) of the reports that it rests on.
        command: what to type to make it again.
    """

    title: str
    answer: str
    sentences: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    command: str = ""


def write_document(document: Document, folder: str | Path) -> Path:
    """Write each table as CSV, each figure as PNG and SVG, and all of it as `index.html`.

    Each file is there whole or not at all.

    Returns:
        The page.

    Raises:
        D90Error: if the folder cannot be made or written.
    """
    folder = Path(folder)
    drawn = {figure.name: plotting.svg(figure.draw) for figure in document.figures}
    contents: dict[str, str | bytes] = {f"{t.name}.csv": t.csv() for t in document.tables}
    for figure in document.figures:
        contents[f"{figure.name}.svg"] = drawn[figure.name]
        contents[f"{figure.name}.png"] = plotting.png(figure.draw)
    pictures = [(figure, Markup(inline(drawn[figure.name]))) for figure in document.figures]
    contents["index.html"] = TEMPLATES.get_template("document.html").render(
        document=document, pictures=pictures
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            atomic_write(folder / name, content)
    except OSError as error:
        raise D90Error(
            f"cannot write the report to '{folder}': expected a folder that can be written "
            f"(--output): {error}."
        ) from error
    return folder / "index.html"


def render_document(document: Document) -> RenderableType:
    """The document in the terminal: tables, warnings, the answer."""
    parts: list[RenderableType] = [Text(document.title, style="bold")]
    for table in document.tables:
        if table.terminal and table.rows:
            parts += [Padding(_in_terminal(table), (1, 0, 0, 0)), Text(table.note, style="dim")]
    parts += [Text(f"warning: {warning}", style="yellow") for warning in document.warnings]
    parts.append(Text(document.answer, style="bold"))
    parts += [Text(sentence) for sentence in document.sentences]
    return Group(*parts)


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


def _in_terminal(table: Table) -> TerminalTable:
    shown = TerminalTable(title=table.title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for column, left in zip(table.columns, table.lefts, strict=True):
        shown.add_column(column, justify="left" if left else "right", overflow="fold")
    for row in table.cells:
        shown.add_row(*row)
    return shown


def links_to(names: Sequence[str], folder: str = "studies") -> tuple[tuple[str, str], ...]:
    """Links to the reports in a folder beside the page."""
    return tuple((name, f"{folder}/{name}/index.html") for name in names)
