"""`python -m benchmarks`: measure, write build/bench.json, print the targets, draw the figures."""

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
from benchmarks import (
    gpu_cases,
    host_work,
    kernels,
    machine,
    memory,
    plots,
    report,
    scaling,
    tables,
    training,
)
from benchmarks.cases import Case, Skip
from benchmarks.entries import Entry

BUILD = machine.ROOT / "build"
FILE = BUILD / "bench.json"
PARTS = (kernels, scaling, memory, training, host_work, gpu_cases)

console = Console()
app = typer.Typer(add_completion=False)


@app.command()
def main(
    quick: Annotated[bool, typer.Option(help="Tiny sizes: check that everything runs.")] = False,
    only: Annotated[
        str | None,
        typer.Option(metavar="PATTERN", help="Cases whose names match PATTERN; * is a wildcard."),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch and of the kernels.")] = 2,
    output: Annotated[
        Path | None,
        typer.Option(help="Default: build/bench.json; another file there with --quick or --only."),
    ] = None,
    list_cases: Annotated[
        bool, typer.Option("--list", help="List the cases without measuring.")
    ] = False,
) -> None:
    """Measure what d90 costs. The file is written atomically, after the last measurement."""
    cases = _select_cases(only, quick=quick)
    if list_cases:
        print("\n".join(case.name for case in cases))
        return
    torch.set_num_threads(threads)
    is_complete = not quick and only is None
    entries, skipped, failed = _run(cases)
    entries.insert(0, machine.describe(quick=quick, skipped=skipped | failed))
    console.print(tables.targets_table(entries))
    path = output or _output_path(is_complete=is_complete and not failed, quick=quick)
    files.write(path, entries)
    console.print(f"{len(entries)} entries in {_relative(path)}")
    if is_complete and not failed:
        report.publish(entries)
        console.print(f"tables and figures in {_relative(report.FOLDER)}")
    elif quick:
        plots.draw(entries, path.parent / f"{path.stem}-figures")
    if failed:
        raise typer.Exit(1)


def _select_cases(only: str | None, *, quick: bool) -> list[Case]:
    cases = [case for part in PARTS for case in part.cases(quick=quick)]
    selected = [case for case in cases if only is None or fnmatch(case.name, f"*{only}*")]
    if not selected:
        console.print(f"no case matches --only '{only}': see --list.")
        raise typer.Exit(2)
    return selected


def _run(cases: list[Case]) -> tuple[list[Entry], dict[str, str], dict[str, str]]:
    """The entries, and the reasons of the cases that were skipped and of those that failed."""
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
                measured = case.run()
            except Skip as reason:
                skipped[case.name] = str(reason)
                progress.console.print(f"skipped: {case.name}: {reason}")
            except Exception as error:  # One broken case must not lose an hour of others.
                failed[case.name] = f"failed: {error}"
                progress.console.print(f"failed: {case.name}: {error}", markup=False)
            else:
                entries += measured
                for entry in measured:
                    progress.console.print(
                        f"{entry.name}: {entry.value:g} {entry.unit}", highlight=False
                    )
            progress.advance(task)
    return entries, skipped, failed


def _output_path(*, is_complete: bool, quick: bool) -> Path:
    return FILE if is_complete else BUILD / ("bench-quick.json" if quick else "bench-partial.json")


def _relative(path: Path) -> str:
    return os.path.relpath(path)


if __name__ == "__main__":
    app(prog_name="python -m benchmarks")
