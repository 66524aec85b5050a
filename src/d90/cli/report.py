"""`d90 report`: a study's report again, from its records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def report(
    study: Annotated[
        Path, typer.Argument(help="The folder of a report, or its summary.json.", metavar="STUDY")
    ],
    output: Annotated[
        Path | None, typer.Option(help="Write the files here. [default: beside the summary]")
    ] = None,
    quiet: Annotated[bool, typer.Option(help="Print the answer only.")] = False,
) -> None:
    """Write a study's table, figure and page again, from its [bold]summary.json[/] alone.

    Nothing is trained: use it after an update of d90, or to copy a report elsewhere.
    """
    from d90.report import Summary, render_text, write_report
    from d90.report.words import answer

    summary = Summary.load(study)
    folder = output or (study if study.is_dir() else study.parent)
    paths = write_report(summary, folder)
    console = Console()
    console.print(answer(summary) if quiet else render_text(summary))
    if not quiet:
        console.print(f"report: {paths.page}", soft_wrap=True)
