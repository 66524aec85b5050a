"""`d90 table`: the paper's Table 1."""

from __future__ import annotations

from typing import TYPE_CHECKING

from d90.cli.sweep import Links, sweep_command

if TYPE_CHECKING:
    from d90.experiments.sweep import SweepResult
    from d90.report.document import Document


def _report(measured: SweepResult, links: Links, command: str) -> Document:
    from d90.report.paper.table1 import table1

    return table1(measured.summaries, measured.failures, links=links, command=command)


table = sweep_command(
    """Table 1: d90 of each MODEL on each task, by SAID and by DID.

    The paper's numbers stand beside those of the same models. Finished runs are kept: the same
    command goes on where it was stopped.

    Example: d90 table roberta-base bert-base-cased --tasks mrpc,qqp --dry-run
    """,
    _report,
    name="table",
    methods="said,did",
    protocol="grid",
)
