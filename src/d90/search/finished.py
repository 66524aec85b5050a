"""Studies that are finished, from their reports."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from d90.errors import D90Error
from d90.report import Summary
from d90.search.summary import FILE_NAME


def load_studies(places: Sequence[Path]) -> list[Summary]:
    """The summaries in these files and folders, at any depth; a study in two places counts once.

    Raises:
        D90Error: for a place that is not there or has no summary; for a damaged summary.
    """
    summaries: dict[str, Summary] = {}
    for place in places:
        files = sorted(place.rglob(FILE_NAME)) if place.is_dir() else [place]
        if not files:
            raise D90Error(
                f"'{place}' has no {FILE_NAME} at any depth: give the report of a `d90 measure`, "
                "or a folder of several."
            )
        for file in files:
            summary = Summary.load(file)
            summaries.setdefault(summary.to_json(), summary)
    return list(summaries.values())
