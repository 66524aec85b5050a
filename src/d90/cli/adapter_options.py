"""What the commands on task files share: the file, its base, a line of progress."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

if TYPE_CHECKING:
    from d90.adapters.predict import OnRows

FILE_HELP = "A task file, from d90 tune."

File = Annotated[Path, typer.Argument(help=FILE_HELP, metavar="FILE")]
FilesArgument = Annotated[
    list[Path], typer.Argument(help="Task files of one base and projection.", metavar="FILES...")
]
BaseModel = Annotated[
    str | None,
    typer.Option(
        "--base",
        help="The base model, where it is not found by the name in the file.",
        metavar="MODEL",
    ),
]
BatchSize = Annotated[int, typer.Option(help="Texts a forward pass.", min=1)]


@contextmanager
def rows_shown(what: str, *, quiet: bool = False) -> Iterator[OnRows]:
    """A bar on standard error, where that is a terminal."""
    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        console=console,
        transient=True,
        disable=quiet or not console.is_terminal,
    )
    with bar:
        shown = bar.add_task(what, total=None)
        yield lambda done, count: bar.update(shown, completed=done, total=count)


def rows_table(*headers: str) -> Table:
    """A plain table, the first column to the left."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for number, header in enumerate(headers):
        table.add_column(header, justify="right" if number else "left", no_wrap=number > 0)
    return table


def say(*parts: Any) -> None:
    """Print for a person: no wrapping of words, no markup in names."""
    console = Console()
    for part in parts:
        if isinstance(part, str):
            console.print(part, soft_wrap=True, highlight=False, markup=False)
        else:
            console.print(part)
