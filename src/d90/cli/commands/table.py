"""`d90 table`: the paper's Table 1."""

from __future__ import annotations

from typing import TYPE_CHECKING

from d90.cli.sweep import Links, sweep_command

if TYPE_CHECKING:
    from d90.experiments.sweep import SweepResult
    from d90.report.document import Document


def _report(result: SweepResult, links: Links, command: str) -> Document:
    from d90.report.paper.table1 import table1

    return table1(result.summaries, result.failures, links=links, command=command)


table = sweep_command(
    """Table 1: d90 of each MODEL on each task, with SAID and with DID.

    The paper's values are shown beside those of the same models. Finished trials are stored: rerun
    the command to resume.

    Example: d90 table roberta-base bert-base-cased --tasks mrpc,qqp --dry-run
    """,
    _report,
    name="table",
    methods="said,did",
    protocol="grid",
)
