"""`d90 scaling`: the paper's Figure 3."""

from __future__ import annotations

from typing import TYPE_CHECKING

from d90.cli.sweep import Links, sweep_command

if TYPE_CHECKING:
    from d90.experiments.sweep import SweepResult
    from d90.report.document import Document


def _report(result: SweepResult, links: Links, command: str) -> Document:
    from d90.report.paper.figure3 import scaling as document

    return document(result.summaries, result.failures, links=links, command=command)


scaling = sweep_command(
    """Figure 3: d90 of each MODEL against its number of parameters, with the rank correlation.

    The default protocol is adaptive. Finished trials are stored: rerun the command to resume.

    Example: d90 scaling roberta-base roberta-large gpt2 --tasks mrpc --dry-run
    """,
    _report,
    name="scaling",
    methods="said",
    protocol="adaptive",
)
