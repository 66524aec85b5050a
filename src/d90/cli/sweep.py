"""What the commands on several measurements share: a plan, a display, a report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from d90.cli.option_groups import with_options
from d90.cli.options import (
    MODEL_HELP,
    TASK_HELP,
    Files,
    Search,
    Training,
    data_options,
    file_options,
    option,
    search_options,
    subspace_options,
    training_options,
)
from d90.cli.output import check_dry_run, command_line, open_store, show, silence
from d90.cli.parsing import names
from d90.distributed.launcher import rank
from d90.search.protocols import Protocol

if TYPE_CHECKING:
    from d90.experiments.sweep import SweepItem, SweepResult
    from d90.report.document import Document

STUDIES = "Studies"

Models = Annotated[list[str], typer.Argument(help=f"Each: {MODEL_HELP}", metavar="MODEL...")]
Tasks = Annotated[
    list[str],
    option(
        f"Tasks, separated by commas. Each: {TASK_HELP}",
        STUDIES,
        metavar="TASK,...",
    ),
]
Methods = Annotated[
    str,
    option(
        "did (theta_0 + P z), said (a scale for each layer), or both.",
        STUDIES,
        metavar="METHOD,METHOD",
    ),
]

Links = tuple[tuple[str, str], ...]

Report = Callable[["SweepResult", Links, str], "Document"]
"""From what was measured, links to the cells' reports and the command, to the document."""


def sweep_command(
    help: str, report: Report, *, name: str, methods: str, protocol: str
) -> Callable[..., None]:
    """A command that measures every model on every task.

    Args:
        help: of the command.
        report: makes the document.
        name: of the folder under `reports/`, where none is given.
        methods, protocol: where none are given.
    """
    default_methods = methods

    @with_options(
        subspace=subspace_options,
        search=search_options,
        training=training_options,
        data=data_options,
        files=file_options,
    )
    def command(
        models: Models,
        *,
        tasks: Tasks,
        methods: Methods = default_methods,
        subspace: Mapping[str, Any],
        search: Search,
        training: Training,
        data: Mapping[str, Any],
        files: Files,
    ) -> None:
        chosen = search.protocol(default=protocol)
        with silence(files.quiet):
            options = {**subspace, **training.keywords(search.baseline_epochs), **data}
            items = build_items(models, tasks, methods, chosen, options)
            run_items(items, files, name, report)

    command.__doc__ = help
    return command


def split(values: Sequence[str]) -> list[str]:
    """`["mrpc,qqp", "sst2"]` as three names; a folder may have a comma in its name."""
    return [
        part
        for value in values
        for part in ([value] if Path(value).expanduser().is_dir() else names(value))
    ]


def run_items(items: Sequence[SweepItem], files: Files, name: str, report: Report) -> None:
    """Plan or measure the cells, and write and show the report.

    Args:
        cells: from `d90.experiments.sweep.compose`.
        files: where everything goes.
        name: of the folder under `reports/`, where none is given.
        report: makes the document.
    """
    check_dry_run(files.dry_run)
    if files.dry_run:
        from d90.cli.cost import show_plans

        show_plans(items)
        return
    from d90.cli.progress.study import StudyProgress
    from d90.experiments.sweep import run_sweep

    folder = files.output or Path("reports") / name
    store = open_store(files.store, folder)
    command = command_line()
    with StudyProgress(Console(), quiet=files.quiet or rank() > 0) as progress:
        measured = run_sweep(
            items,
            store,
            executor=files.make_executor,
            folder=folder / "studies" if rank() == 0 else None,
            callback=progress,
            command=command,
        )
    if rank() > 0:
        return
    show_document(report(measured, _links(folder), command), folder, quiet=files.quiet)


def show_document(document: Document, folder: Path, *, quiet: bool) -> None:
    """Write the report and print it with its path; the answer alone when quiet."""
    from d90.report import write_document

    show(document, write_document(document, folder), quiet=quiet)


def build_items(
    models: Sequence[str],
    tasks: Sequence[str],
    methods: str,
    protocol: Protocol,
    options: Mapping[str, Any],
) -> tuple[SweepItem, ...]:
    """The cells of a command, checked."""
    from d90.experiments.sweep import build_sweep

    return build_sweep(models, split(tasks), names(methods), protocol=protocol, **options)


def _links(folder: Path) -> Links:
    from d90.report.document import links_to

    return links_to(sorted(path.name for path in (folder / "studies").glob("*") if path.is_dir()))
