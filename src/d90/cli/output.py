"""Where an answer goes: the folder of a report, and the terminal, quiet or not."""

from __future__ import annotations

import logging
import os
import re
import shlex
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

from rich.console import Console

from d90.distributed.launcher import rank, world_size
from d90.errors import D90Error

if TYPE_CHECKING:
    from d90.report import Document
    from d90.storage.store import Store

PASSWORD = re.compile(r"(://[^:/@]*):[^/]*@")
"""In a URL, from the user's name on."""


def command_line(arguments: Sequence[str] | None = None) -> str:
    """What was typed, for a report; without the password of a database.

    >>> command_line(["measure", "my model", "--store", "postgresql://me:secret@host/d90"])
    "d90 measure 'my model' --store postgresql://me@host/d90"
    """
    given = sys.argv[1:] if arguments is None else arguments
    return shlex.join(["d90", *(PASSWORD.sub(r"\1@", argument) for argument in given)])


def check_folder(folder: Path) -> None:
    """Make the folder and try to write there, before hours of training.

    Raises:
        D90Error: when it cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise D90Error(
            f"--output '{folder}' cannot be written ({error.strerror}): give a folder that can."
        ) from error


def open_store(url: str, folder: Path) -> Store | None:
    """The store, where the folder of the report can be written; None but in the first process.

    Raises:
        D90Error: in every process that a launcher started, where one of the two cannot be used.
    """
    from d90.distributed.process_group import raise_on_all_ranks
    from d90.storage.store import Store

    with raise_on_all_ranks():
        if rank() > 0:
            return None
        store = Store(url)
        check_folder(folder)
        return store


def print_line(line: str, console: Console | None = None) -> None:
    """Print one line as it is: not wrapped, not highlighted, no markup in names."""
    (console or Console()).print(line, soft_wrap=True, highlight=False, markup=False)


def format_seconds(seconds: float) -> str:
    """A duration in the unit that suits it.

    >>> [format_seconds(seconds) for seconds in (4.2, 312, 8000)]
    ['4 s', '5 min', '2.2 h']
    """
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5940 else f"{seconds / 3600:.1f} h"


def show(document: Document, page: Path, *, quiet: bool) -> None:
    """Print a report and the path of its page; the answer alone when quiet."""
    from d90.report import render_document

    console = Console()
    if quiet:
        console.print(document.answer, highlight=False, soft_wrap=True)
        return
    console.print(render_document(document))
    console.print(f"report: {page}", soft_wrap=True, highlight=False, markup=False)


def check_dry_run(plan: bool) -> None:
    """Refuse a plan under a launcher: it is about one process.

    Raises:
        D90Error: saying so.
    """
    if plan and world_size() > 1:
        raise D90Error("--dry-run is made in one process: leave the launcher out.")


@contextmanager
def silence(quiet: bool) -> Iterator[None]:
    """Keep warnings, logs and progress bars of every library off standard error.

    Where a launcher started several processes, this one may speak only if it is the first.
    """
    if not quiet and rank() == 0:
        yield
        return
    # Read when those libraries are loaded, which is after this.
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            # In place of a filter, since libraries add their own before it.
            warnings.showwarning = lambda *_, **__: None
            yield
    finally:
        logging.disable(before)
