"""Figure 1 as a document: curves of several models, one panel per task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from d90.report.document import Document
from d90.report.paper.figure1_panels import panels
from d90.report.study_table import failure_warnings, missing_d90_warnings, studies_table
from d90.search.summary import Summary


def curves(
    summaries: Sequence[Summary],
    failures: Mapping[str, str] | None = None,
    *,
    links: tuple[tuple[str, str], ...] = (),
    command: str = "",
) -> Document:
    """Figure 1, with a table of all studies."""
    failures = failures or {}
    answered = sum(summary.d90 is not None for summary in summaries)
    return Document(
        title="Figure 1: metric against d",
        answer=f"{answered} of {len(summaries) + len(failures)} studies have a d90.",
        warnings=(*failure_warnings(failures), *missing_d90_warnings(summaries)),
        tables=(studies_table(summaries, failures),),
        figures=(panels(summaries),) if summaries else (),
        links=links,
        command=command,
    )
