"""Commands that measure several models, tasks and methods: their options, display and report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from d90.cli.options import (
    MODEL_HELP,
    TASK_HELP,
    ProtocolOptions,
    RunOptions,
    TrainingOptions,
    option,
    study_options,
)
from d90.cli.output import check_dry_run, command_line, open_store, show_report, silence
from d90.cli.parsing import names
from d90.cli.terminal import Terminal
from d90.distributed.launcher import rank
from d90.search.protocols import Protocol
from d90.utils.files import as_path

if TYPE_CHECKING:
    from d90.experiments.sweep import SweepItem, SweepResult
    from d90.report.document import Document

STUDIES = "Studies"

Models = Annotated[list[str], typer.Argument(help=MODEL_HELP, metavar="MODEL...")]
Tasks = Annotated[
    list[str],
    option(f"Tasks, separated by commas. Each: {TASK_HELP}", STUDIES, metavar="TASK,..."),
]
Methods = Annotated[
    str,
    option(
        "did (theta_0 + P z), said (with a trained scale for each group), or both.",
        STUDIES,
        metavar="METHOD,...",
    ),
]

Links = tuple[tuple[str, str], ...]

Report = Callable[["SweepResult", Links, str], "Document"]
"""From the results, links to the studies' reports and the command to the document."""


def sweep_command(
    help: str, report: Report, *, name: str, methods: str, protocol: str
) -> Callable[..., None]:
    """A command that measures every model on every task.

    Args:
        help: of the command.
        report: makes the document.
        name: default name of the report's folder under `reports/`.
        methods, protocol: defaults of the options.
    """
    default_methods, default_protocol = methods, protocol

    @study_options
    def command(
        models: Models,
        *,
        tasks: Tasks,
        methods: Methods = default_methods,
        subspace: Mapping[str, Any],
        protocol: ProtocolOptions,
        training: TrainingOptions,
        data: Mapping[str, Any],
        run: RunOptions,
    ) -> None:
        chosen = protocol.make(default=default_protocol)
        with silence(run.quiet):
            run.check()
            options = {**subspace, **training.keywords(protocol), **data}
            items = build_items(models, tasks, methods, chosen, options)
            run_items(items, run, name, report)

    command.__doc__ = help
    return command


def build_items(
    models: Sequence[str],
    tasks: Sequence[str],
    methods: str,
    protocol: Protocol,
    options: Mapping[str, Any],
) -> tuple[SweepItem, ...]:
    """The studies of a command, checked."""
    from d90.experiments.sweep import build_sweep

    return build_sweep(models, split(tasks), names(methods), protocol=protocol, **options)


def split(values: Sequence[str]) -> list[str]:
    """`["mrpc,qqp", "sst2"]` as three names; the name of a folder may contain a comma."""
    return [
        part
        for value in values
        for part in ([value] if as_path(value, "task").is_dir() else names(value))
    ]


def run_items(items: Sequence[SweepItem], options: RunOptions, name: str, report: Report) -> None:
    """Measure the studies, then write and print the report; or print what they would cost.

    Args:
        items: from `d90.experiments.sweep.build_sweep`.
        options: where trials run and are stored, and where the report goes.
        name: default name of the report's folder under `reports/`.
        report: makes the document.
    """
    check_dry_run(options.dry_run)
    if options.dry_run:
        from d90.cli.cost import show_sweep_cost

        show_sweep_cost(items)
        return
    from d90.cli.progress.study import StudyProgress
    from d90.experiments.sweep import run_sweep

    folder = options.output or Path("reports") / name
    store = open_store(options.store, folder)
    command = command_line()
    with StudyProgress(Terminal(), quiet=options.quiet or rank() > 0) as progress:
        result = run_sweep(
            items,
            store,
            executor=options.make_executor,
            folder=folder / "studies" if rank() == 0 else None,
            callback=progress,
            command=command,
        )
    if rank() == 0:
        show_document(report(result, _links(folder), command), folder, quiet=options.quiet)


def show_document(document: Document, folder: Path, *, quiet: bool) -> None:
    """Write the report and print it with its path; only the answer when quiet."""
    from d90.report import write_document

    show_report(document, write_document(document, folder), quiet=quiet)


def _links(folder: Path) -> Links:
    from d90.report.document import links_to

    return links_to(sorted(path.name for path in (folder / "studies").glob("*") if path.is_dir()))
