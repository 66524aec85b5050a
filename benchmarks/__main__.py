"""`python -m benchmarks`: measure, write build/bench.json, print the bars, draw the figures."""

from __future__ import annotations

import os
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import entries as files
from benchmarks import kernels, machine, memory, plots, report, scaling, tables, training
from benchmarks.cases import Case, Skip
from benchmarks.entries import Entry

BUILD = machine.ROOT / "build"
FILE = BUILD / "bench.json"
PARTS = (kernels, scaling, memory, training)

console = Console()
app = typer.Typer(add_completion=False)


@app.command()
def main(
    quick: Annotated[bool, typer.Option(help="Tiny sizes: whether it works, in seconds.")] = False,
    only: Annotated[
        str | None,
        typer.Option(metavar="PATTERN", help="Cases with this in their names; * is anything."),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch and of the kernels.")] = 2,
    output: Annotated[
        Path | None,
        typer.Option(help="Default: build/bench.json; with --quick or --only another name there."),
    ] = None,
    list_cases: Annotated[
        bool, typer.Option("--list", help="Name the cases, measure nothing.")
    ] = False,
) -> None:
    """Measure what d90 costs. The file is written once all is measured, whole or not at all."""
    cases = _chosen(only, quick=quick)
    if list_cases:
        print("\n".join(case.name for case in cases))
        return
    torch.set_num_threads(threads)
    whole = not quick and only is None
    entries, skipped, failed = _run(cases)
    entries.insert(0, machine.describe(quick=quick, skipped=skipped | failed))
    console.print(tables.bars_table(entries))
    path = output or _place(whole=whole and not failed, quick=quick)
    files.write(path, entries)
    console.print(f"{len(entries)} entries in {_shown(path)}")
    if whole and not failed:
        report.publish(entries)
        console.print(f"tables and figures in {_shown(report.FOLDER)}")
    elif quick:
        plots.draw(entries, path.parent / f"{path.stem}-figures")
    if failed:
        raise typer.Exit(1)


def _chosen(only: str | None, *, quick: bool) -> list[Case]:
    cases = [case for part in PARTS for case in part.cases(quick=quick)]
    chosen = [case for case in cases if only is None or fnmatch(case.name, f"*{only}*")]
    if not chosen:
        console.print(f"--only '{only}' is in no case's name: see --list.")
        raise typer.Exit(2)
    return chosen


def _run(cases: list[Case]) -> tuple[list[Entry], dict[str, str], dict[str, str]]:
    """The entries, and the cases that were skipped or failed, with the reasons."""
    entries: list[Entry] = []
    skipped: dict[str, str] = {}
    failed: dict[str, str] = {}
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=len(cases))
        for case in cases:
            progress.update(task, description=case.name)
            try:
                found = case.run()
            except Skip as reason:
                skipped[case.name] = str(reason)
                progress.console.print(f"skipped: {case.name}: {reason}")
            except Exception as problem:  # One broken comparator is not to lose the other hour.
                failed[case.name] = f"failed: {problem}"
                progress.console.print(f"failed: {case.name}: {problem}", markup=False)
            else:
                entries += found
                for entry in found:
                    progress.console.print(
                        f"{entry.name}: {entry.value:g} {entry.unit}", highlight=False
                    )
            progress.advance(task)
    return entries, skipped, failed


def _place(*, whole: bool, quick: bool) -> Path:
    return FILE if whole else BUILD / ("bench-quick.json" if quick else "bench-partial.json")


def _shown(path: Path) -> str:
    return os.path.relpath(path)


if __name__ == "__main__":
    app(prog_name="python -m benchmarks")
