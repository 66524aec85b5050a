"""Rewrite docs/performance from build/bench.json: `python -m benchmarks.report`.

Draws the figures and replaces the part of the README between the two marks.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer

from benchmarks import plots, tables
from benchmarks.entries import Entry, find, read
from benchmarks.machine import ROOT

FOLDER = ROOT / "docs" / "performance"
BEGIN, END = "<!-- begin: python -m benchmarks.report -->", "<!-- end -->"


def publish(entries: Sequence[Entry], folder: Path = FOLDER) -> None:
    """Write the figures and tables of a complete run."""
    names = plots.draw(entries, folder)
    figures = "\n\n".join(f"![{title}]({name}.png)" for name, title in names.items())
    page = folder / "README.md"
    text = page.read_text(encoding="utf-8")
    section = f"{tables.markdown(entries)}\n\n## Figures\n\n{figures}"
    page.write_text(replace_section(text, section), encoding="utf-8")


def replace_section(text: str, section: str) -> str:
    """Put the section between the marks of the text.

    Raises:
        ValueError: a mark is missing.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"expected the marks {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{section}\n\n{END}{after}"


def main(file: Path = ROOT / "build" / "bench.json") -> None:
    """Rewrite docs/performance from the file of a complete run."""
    entries = read(file)
    if find(entries, kind="machine", quick=True):
        raise typer.BadParameter(f"{file} is from a quick run, whose values are meaningless")
    publish(entries)


if __name__ == "__main__":
    typer.run(main)
