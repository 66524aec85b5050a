"""`d90 trajectory`: the paper's Figure 2, from the checkpoints of `d90 pretrain`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from d90.cli.option_groups import with_options
from d90.cli.options import (
    ProtocolOptions,
    RunOptions,
    TrainingOptions,
    data_options,
    option,
    protocol_options,
    run_options,
    subspace_options,
    training_options,
)
from d90.cli.output import silence
from d90.cli.parsing import integers
from d90.cli.sweep import STUDIES, Links, Methods, Tasks, build_items, run_items

if TYPE_CHECKING:
    from d90.experiments.sweep import SweepResult
    from d90.report.document import Document


@with_options(
    subspace=subspace_options,
    protocol=protocol_options,
    training=training_options,
    data=data_options,
    run=run_options,
)
def trajectory(
    folder: Annotated[Path, typer.Argument(help="Output folder of d90 pretrain.", metavar="DIR")],
    *,
    tasks: Tasks,
    methods: Methods = "said",
    checkpoints: Annotated[
        str | None,
        option(
            "Only the checkpoints after these steps.",
            STUDIES,
            metavar="N,N,...",
            show_default="all",
        ),
    ] = None,
    subspace: Mapping[str, Any],
    protocol: ProtocolOptions,
    training: TrainingOptions,
    data: Mapping[str, Any],
    run: RunOptions,
) -> None:
    """Figure 2: d90 of every checkpoint of a pre-training run, on each task.

    The default protocol is bisect. Checkpoints without a d90 are missing from the figure and listed
    in the table. Finished trials are stored: rerun the command to resume.

    Example: d90 trajectory runs/mini --tasks sst2,mrpc --dry-run
    """
    search = protocol.make(default="bisect")
    with silence(run.quiet):
        from d90.experiments.trajectory import checkpoint_models, join_checkpoints
        from d90.report.paper.figure2 import trajectory as document

        selected = None if checkpoints is None else integers("--checkpoints", checkpoints)
        steps = checkpoint_models(folder, selected)
        options = {**subspace, **training.keywords(protocol.baseline_epochs), **data}
        items = build_items(list(steps), tasks, methods, search, options)

        def report(result: SweepResult, links: Links, command: str) -> Document:
            points = join_checkpoints(folder, steps, result.summaries)
            return document(points, result.failures, links=links, command=command)

        run_items(items, run, f"trajectory-{folder.resolve().name}", report)
