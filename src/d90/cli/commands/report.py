"""`d90 report`: the report of a study, from its summary."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    study: Annotated[
        Path, typer.Argument(help="Folder of a report, or its summary.json.", metavar="STUDY")
    ],
    output: Annotated[
        Path | None, typer.Option(help="Folder to write to.", show_default="that of the summary")
    ] = None,
    quiet: Annotated[bool, typer.Option(help="Print only the answer.")] = False,
) -> None:
    """Write the report of a study again, from its summary.json.

    Nothing is trained. Use it after an upgrade of d90, or to write the report elsewhere.

    Example: d90 report reports/mrpc
    """
    from d90.cli.output import show_report
    from d90.report import study_document, write_report
    from d90.search.summary import Summary

    summary = Summary.load(study)
    folder = output or (study if study.is_dir() else study.parent)
    show_report(study_document(summary), write_report(summary, folder), quiet=quiet)
