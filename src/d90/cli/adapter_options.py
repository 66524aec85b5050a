"""Options that the commands on adapters share, and their progress bar."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from d90.cli.terminal import Terminal

if TYPE_CHECKING:
    from d90.adapters.predict import OnRows

AdapterFile = Annotated[Path, typer.Argument(help="An adapter, from d90 tune.", metavar="ADAPTER")]
AdapterFiles = Annotated[
    list[Path],
    typer.Argument(help="Adapters with the same base model and subspace.", metavar="ADAPTER..."),
]
BaseModel = Annotated[
    str | None,
    typer.Option(
        "--base", help="The base model.", metavar="MODEL", show_default="as named in the adapter"
    ),
]
BatchSize = Annotated[int, typer.Option(help="Examples per forward pass.", min=1, max=2**31 - 1)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@contextmanager
def progress_bar(description: str, *, quiet: bool = False) -> Iterator[OnRows]:
    """A progress bar of examples on standard error, if that is a terminal."""
    console = Terminal(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        console=console,
        transient=True,
        disable=quiet or not console.is_terminal,
    )
    with bar:
        task = bar.add_task(description, total=None)
        yield lambda done, count: bar.update(task, completed=done, total=count)
