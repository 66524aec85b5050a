"""Output of commands: the store, the report's folder and the terminal."""

from __future__ import annotations

import logging
import os
import shlex
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from d90.cli.terminal import Terminal
from d90.distributed.launcher import rank, world_size
from d90.errors import D90Error
from d90.utils.files import check_output_folder
from d90.utils.redact import redact_argument

if TYPE_CHECKING:
    from d90.report import Document
    from d90.storage.store import Store


def command_line(arguments: Sequence[str] | None = None) -> str:
    """The command as it was typed, without the secrets of a database URL.

    >>> command_line(["measure", "my model", "--store", "postgresql://me:secret@host/d90"])
    "d90 measure 'my model' --store postgresql://me@host/d90"
    """
    given = sys.argv[1:] if arguments is None else arguments
    return shlex.join(["d90", *map(redact_argument, given)])


def open_store(url: str, folder: Path) -> Store | None:
    """The store, once the report's folder is known to be writable; None on ranks above 0.

    Raises:
        D90Error: on every rank, if the store or the folder cannot be used.
    """
    from d90.distributed.process_group import raise_on_all_ranks
    from d90.storage.store import Store

    with raise_on_all_ranks():
        if rank() > 0:
            return None
        check_output_folder(folder)
        return Store(url)


def print_line(line: str, console: Console | None = None) -> None:
    """Print one line as it is: not wrapped, and nothing in it read as markup."""
    (console or Terminal()).print(line.replace("\n", " "), soft_wrap=True)


def rows_table(*headers: str) -> Table:
    """A table without borders, its first column aligned to the left."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for number, header in enumerate(headers):
        table.add_column(header, justify="right" if number else "left", no_wrap=number > 0)
    return table


def format_seconds(seconds: float) -> str:
    """A duration in the unit that suits it.

    >>> [format_seconds(seconds) for seconds in (4.2, 312, 8000)]
    ['4 s', '5 min', '2.2 h']
    """
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5940 else f"{seconds / 3600:.1f} h"


def show_report(document: Document, page: Path, *, quiet: bool) -> None:
    """Print a report and the path of its page; only the answer when quiet."""
    from d90.report import render_document

    console = Terminal()
    if quiet:
        print_line(document.answer, console)
        return
    console.print(render_document(document))
    print_line(f"report: {page}", console)


def check_dry_run(dry_run: bool) -> None:
    """Refuse --dry-run under a launcher, since it estimates the cost of one process.

    Raises:
        D90Error: several processes were launched.
    """
    if dry_run and world_size() > 1:
        raise D90Error("--dry-run runs in one process: start d90 without a launcher.")


@contextmanager
def silence(quiet: bool) -> Iterator[None]:
    """Keep the warnings, logs and progress bars of all libraries off standard error.

    Ranks above 0 are always silent.
    """
    if not quiet and rank() == 0:
        yield
        return
    # These libraries read them on import, which happens later.
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            # Not a filter: libraries insert filters of their own in front of it.
            warnings.showwarning = lambda *_, **__: None
            yield
    finally:
        logging.disable(before)
