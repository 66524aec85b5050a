"""`d90 measure`: d90 of a model on a task, with its curve."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from d90.cli.option_groups import with_options
from d90.cli.options import (
    MODEL_HELP,
    SUBSPACE,
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
from d90.distributed.launcher import rank

if TYPE_CHECKING:
    from d90.experiments.study import Study


@with_options(
    subspace=subspace_options,
    search=search_options,
    training=training_options,
    data=data_options,
    files=file_options,
)
def measure(
    model: Annotated[str, typer.Argument(help=MODEL_HELP, metavar="MODEL")],
    task: Annotated[str, typer.Argument(help=TASK_HELP, metavar="TASK")],
    *,
    method: Annotated[
        str, option("did: theta_0 + P z. said: with a scale for each layer.", SUBSPACE)
    ] = "did",
    subspace: Mapping[str, Any],
    search: Search,
    training: Training,
    data: Mapping[str, Any],
    files: Files,
) -> None:
    """Measure d90: the fewest numbers that fine-tune MODEL on TASK to 90% of full fine-tuning.

    Finished runs are kept: the same command goes on where it was stopped, at any moment.

    Example: d90 measure minilm-l6 wordnet-supersense --dims 30,100,300,1000

    With --dry-run it says what that would run, and in what time and memory, and stops.
    """
    from d90.cli.output import check_dry_run, silence

    protocol = search.protocol()
    check_dry_run(files.dry_run)
    with silence(files.quiet):
        from d90.experiments import study as measurement

        study = measurement.plan(
            model,
            task,
            method=method,
            protocol=protocol,
            **subspace,
            **training.keywords(search.baseline_epochs),
            **data,
        )
        if files.dry_run:
            _show_plan(study)
        else:
            _run(study, files)


def _show_plan(study: Study) -> None:
    from d90.cli.cost import show_plan

    show_plan(study)


def _run(study: Study, files: Files) -> None:
    from d90.cli.output import command_line, open_store, show
    from d90.cli.progress.study import StudyProgress
    from d90.experiments.study import run
    from d90.report import study_document, write_report

    folder = files.output or Path("reports") / study.name
    executor = files.make_executor(study.runner)
    store = open_store(files.store, folder)
    with StudyProgress(Console(), quiet=files.quiet or rank() > 0) as progress:
        summary = run(study, store, executor=executor, callback=progress, command=command_line())
    if rank() > 0:
        return
    show(study_document(summary), write_report(summary, folder), quiet=files.quiet)
