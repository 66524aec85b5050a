"""`d90 curves`: the paper's Figure 1."""

from __future__ import annotations

from typing import TYPE_CHECKING

from d90.cli.sweep import Links, sweep_command

if TYPE_CHECKING:
    from d90.experiments.sweep import SweepResult
    from d90.report.document import Document


def _report(result: SweepResult, links: Links, command: str) -> Document:
    from d90.report.paper.figure1 import curves as document

    return document(result.summaries, result.failures, links=links, command=command)


curves = sweep_command(
    """Figure 1: metric against d for each MODEL, one panel per task.

    Lines mark full fine-tuning and 90% of it. Finished trials are stored: rerun the command to
    resume.

    Example: d90 curves roberta-base roberta-large --tasks mrpc,qqp --num-dims 20 --dry-run
    """,
    _report,
    name="curves",
    methods="did",
    protocol="grid",
)
