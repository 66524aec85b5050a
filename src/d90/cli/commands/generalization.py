"""`d90 generalization`: the paper's Figures 4 and 5, from finished studies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from d90.cli.output import command_line
from d90.cli.sweep import show_document
from d90.utils.files import check_output_folder


def generalization(
    studies: Annotated[
        list[Path],
        typer.Argument(
            help="Reports of d90 measure, or folders that contain them at any depth.",
            metavar="STUDY...",
        ),
    ],
    runs: Annotated[
        str,
        typer.Option(help="Accuracies of which trials: best (of the whole study) or d90 (at d90)."),
    ] = "best",
    delta: Annotated[
        float, typer.Option(help="Probability with which each bound may fail.")
    ] = 0.05,
    output: Annotated[Path, typer.Option(help="Folder of the report.")] = Path(
        "reports/generalization"
    ),
    quiet: Annotated[bool, typer.Option(help="Print only the answer.")] = False,
) -> None:
    """Figures 4 and 5: evaluation accuracy and relative generalization gap against d90.

    The table also lists the bound of Theorem 1 on the error of each study, with its constants.
    Nothing is trained.

    Example: d90 generalization reports/scaling reports/trajectory-mini
    """
    from d90.bounds.check import check_delta
    from d90.report.paper.figures4_5 import check_runs
    from d90.report.paper.figures4_5 import generalization as document
    from d90.search.summary import load_summaries

    check_runs(runs)
    check_delta(delta)
    summaries = load_summaries(studies)
    check_output_folder(output)
    command = command_line()
    report = document(summaries, runs=runs, delta=delta, command=command)
    show_document(report, output, quiet=quiet)
