"""Reports as files in a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from d90.errors import D90Error
from d90.report import plotting
from d90.report.document import Document
from d90.report.html import render_page
from d90.report.study import study_document
from d90.search.summary import FILE_NAME, Summary
from d90.utils.files import atomic_write


def write_report(summary: Summary, folder: str | Path) -> Path:
    """Write `summary.json`, `trials.csv`, the figures as PNG and SVG, and `index.html`.

    The summary is written first, and each file atomically: after an interruption, `d90 report`
    makes the other files again from `summary.json`.

    Returns:
        Path of the page.

    Raises:
        D90Error: if the folder cannot be created or written.
    """
    text = summary.to_json()
    _write({FILE_NAME: text}, Path(folder))
    # Made from what was written, so that `d90 report` gives the same bytes again.
    return write_document(study_document(Summary.from_json(text)), folder)


def write_document(document: Document, folder: str | Path) -> Path:
    """Write each table as CSV, each figure as PNG and SVG, and the whole as `index.html`.

    Each file is written atomically.

    Returns:
        Path of the page.

    Raises:
        D90Error: if the folder cannot be created or written.
    """
    folder = Path(folder)
    svgs = {figure.name: plotting.svg(figure.draw) for figure in document.figures}
    contents: dict[str, str | bytes] = {f"{t.name}.csv": t.csv() for t in document.tables if t.name}
    for figure in document.figures:
        contents[f"{figure.name}.svg"] = svgs[figure.name]
        contents[f"{figure.name}.png"] = plotting.png(figure.draw)
    contents["index.html"] = render_page(document, svgs)
    _write(contents, folder)
    return folder / "index.html"


def _write(contents: Mapping[str, str | bytes], folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            atomic_write(folder / name, content)
    except OSError as error:
        raise D90Error(
            f"cannot write the report to '{folder}': expected a writable folder ({error})."
        ) from error
