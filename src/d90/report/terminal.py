"""A document in the terminal."""

from __future__ import annotations

from collections.abc import Collection

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table as TerminalTable
from rich.text import Text

from d90.report.document import Document, RowStyle, Table

STYLES: dict[RowStyle, str] = {"": "", "best": "bold", "failed": "dim"}


def render_document(document: Document) -> RenderableType:
    """Tables, warnings and the answer; from a width of 40 characters."""
    parts: list[RenderableType] = [Text(document.title, style="bold")]
    tables = [table for table in document.tables if table.rows and table.terminal_rows != 0]
    parts += [Padding(_render_table(table), (1, 0, 0, 0)) for table in tables]
    parts.append(Text())
    parts += [Text(f"warning: {warning}", style="yellow") for warning in document.warnings]
    parts.append(Text(document.answer, style="bold"))
    parts += [Text(sentence) for sentence in document.sentences]
    return Group(*parts)


def _render_table(table: Table) -> RenderableType:
    out = TerminalTable(
        title=table.title, title_justify="left", box=None, padding=(0, 2, 0, 0), pad_edge=False
    )
    cells, styles = table.cells, table.row_styles
    for i, (header, is_text) in enumerate(zip(table.header, table.is_text, strict=True)):
        if is_text:
            out.add_column(header, overflow="fold")
        else:  # The header may wrap, and an interval behind its d90; the numbers may not.
            width = max(cell_len(word) for row in cells for word in row[i].split(" "))
            out.add_column(header, justify="right", overflow="fold", min_width=width)
    limit = len(cells) if table.terminal_rows is None else table.terminal_rows
    shown = downsample(len(cells), limit, {i for i, style in enumerate(styles) if style == "best"})
    for i in shown:
        out.add_row(*cells[i], style=STYLES[styles[i]])
    notes = [f"{len(shown)} of {len(cells)} rows"] if len(shown) < len(cells) else []
    notes += [table.note] if table.note else []
    return Group(out, *(Text(note, style="dim") for note in notes))


def downsample(count: int, limit: int, keep: Collection[int] = ()) -> list[int]:
    """At most `limit` of `count` indices, evenly spread, with both ends; and `keep` besides.

    >>> downsample(6, 3, keep=[1])
    [0, 1, 2, 5]
    """
    if count <= limit:
        return list(range(count))
    chosen = {i * (count - 1) // (limit - 1) for i in range(limit)}
    return sorted(chosen | set(keep))
