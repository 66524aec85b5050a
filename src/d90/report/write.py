"""A study's report as files in a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from d90.errors import D90Error
from d90.report.curve import curve_png, curve_svg
from d90.report.html import page
from d90.report.trials import trials_csv
from d90.search.summary import FILE_NAME, Summary
from d90.utils.files import atomic_write


@dataclass(frozen=True)
class ReportPaths:
    """Where the files of a report are."""

    summary: Path
    trials: Path
    png: Path
    svg: Path
    page: Path


def write_report(summary: Summary, folder: str | Path) -> ReportPaths:
    """Write `summary.json`, `trials.csv`, `curve.png`, `curve.svg` and `index.html`.

    The summary comes first, and each file is there whole or not at all: whatever interrupts,
    `d90 report` makes the rest again from `summary.json`.

    Raises:
        D90Error: if the folder cannot be made or written.
    """
    folder = Path(folder)
    paths = ReportPaths(
        summary=folder / FILE_NAME,
        trials=folder / "trials.csv",
        png=folder / "curve.png",
        svg=folder / "curve.svg",
        page=folder / "index.html",
    )
    text = summary.to_json()
    # The rest is made from what was written, so that `d90 report` gives the same bytes again.
    summary = Summary.from_json(text)
    svg = curve_svg(summary)
    contents: dict[Path, str | bytes] = {
        paths.summary: text,
        paths.trials: trials_csv(summary.ordered_trials),
        paths.png: curve_png(summary),
        paths.svg: svg,
        paths.page: page(summary, svg),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, content in contents.items():
            atomic_write(path, content)
    except OSError as error:
        raise D90Error(
            f"cannot write the report to '{folder}': expected a folder that can be written "
            f"(--output): {error}."
        ) from error
    return paths
