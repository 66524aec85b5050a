"""`d90 report`: a study's report again, from its records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    study: Annotated[
        Path, typer.Argument(help="The folder of a report, or its summary.json.", metavar="STUDY")
    ],
    output: Annotated[
        Path | None, typer.Option(help="Write the files here.", show_default="beside the summary")
    ] = None,
    quiet: Annotated[bool, typer.Option(help="Print the answer only.")] = False,
) -> None:
    """Write a study's table, figure and page again, from its summary.json alone.

    Nothing is trained: use it after an update of d90, or to copy a report elsewhere.
    """
    from d90.cli.output import show
    from d90.report import Summary, study_document, write_report

    summary = Summary.load(study)
    folder = output or (study if study.is_dir() else study.parent)
    show(study_document(summary), write_report(summary, folder), quiet=quiet)
