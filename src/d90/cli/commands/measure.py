"""`d90 measure`: d90 of a model on a task."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from d90.cli.options import (
    MODEL_HELP,
    TASK_HELP,
    Method,
    ProtocolOptions,
    RunOptions,
    TrainingOptions,
    study_options,
)
from d90.cli.terminal import Terminal
from d90.distributed.launcher import rank

if TYPE_CHECKING:
    from d90.experiments.study import Study


@study_options
def measure(
    model: Annotated[str, typer.Argument(help=MODEL_HELP, metavar="MODEL")],
    task: Annotated[str, typer.Argument(help=TASK_HELP, metavar="TASK")],
    *,
    method: Method = "did",
    subspace: Mapping[str, Any],
    protocol: ProtocolOptions,
    training: TrainingOptions,
    data: Mapping[str, Any],
    run: RunOptions,
) -> None:
    """Measure d90, the fewest parameters that reach 90% of full fine-tuning of MODEL on TASK.

    Finished trials are stored: rerun the command to resume.

    Example: d90 measure minilm-l6 wordnet-supersense --dims 30,100,300,1000
    """
    from d90.cli.output import check_dry_run, silence

    chosen = protocol.make()
    check_dry_run(run.dry_run)
    with silence(run.quiet):
        from d90.experiments.problem import load_problem
        from d90.experiments.study import Study

        run.check()
        problem = load_problem(
            model,
            task,
            method=method,
            dims=chosen.dimensions(),
            **subspace,
            **training.keywords(protocol),
            **data,
        )
        study = Study(problem, chosen)
        if run.dry_run:
            from d90.cli.cost import show_cost

            show_cost(problem, study.protocol)
        else:
            _measure(study, run)


def _measure(study: Study, options: RunOptions) -> None:
    from d90.cli.output import command_line, open_store, show_report
    from d90.cli.progress.study import StudyProgress
    from d90.experiments.measure import run_study
    from d90.report import study_document, write_report

    folder = options.output or Path("reports") / study.name
    executor = options.make_executor(study.problem.runner)
    store = open_store(options.store, folder)
    with StudyProgress(Terminal(), quiet=options.quiet or rank() > 0) as progress:
        summary = run_study(
            study, store, executor=executor, callback=progress, command=command_line()
        )
    if rank() > 0:
        return
    show_report(study_document(summary), write_report(summary, folder), quiet=options.quiet)
