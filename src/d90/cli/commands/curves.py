"""`d90 curves`: the paper's Figure 1."""

from __future__ import annotations

from typing import TYPE_CHECKING

from d90.cli.sweep import Links, sweep_command

if TYPE_CHECKING:
    from d90.experiments.sweep import SweepResult
    from d90.report.document import Document


def _report(measured: SweepResult, links: Links, command: str) -> Document:
    from d90.report.paper.figure1 import curves as document

    return document(measured.summaries, measured.failures, links=links, command=command)


curves = sweep_command(
    """Figure 1: metric against d of each MODEL, with full and 0.9 lines, one panel a task.

    Finished runs are kept: the same command goes on where it was stopped.

    Example: d90 curves roberta-base roberta-large --tasks mrpc,qqp --num-dims 20 --dry-run
    """,
    _report,
    name="curves",
    methods="did",
    protocol="grid",
)
