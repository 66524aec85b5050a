"""`d90 trajectory`: the paper's Figure 2, from the checkpoints of `d90 pretrain`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from d90.cli.option_groups import with_options
from d90.cli.options import (
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
from d90.cli.output import silence
from d90.cli.parsing import whole_numbers
from d90.cli.sweep import STUDIES, Links, Methods, Tasks, build_items, run_items

if TYPE_CHECKING:
    from d90.experiments.sweep import SweepResult
    from d90.report.document import Document


@with_options(
    subspace=subspace_options,
    search=search_options,
    training=training_options,
    data=data_options,
    files=file_options,
)
def trajectory(
    folder: Annotated[
        Path, typer.Argument(help="The folder that d90 pretrain wrote.", metavar="DIR")
    ],
    *,
    tasks: Tasks,
    methods: Methods = "said",
    checkpoints: Annotated[
        str | None,
        option("Only those after so many updates.", STUDIES, metavar="N,N,...", show_default="all"),
    ] = None,
    subspace: Mapping[str, Any],
    search: Search,
    training: Training,
    data: Mapping[str, Any],
    files: Files,
) -> None:
    """Figure 2: d90 of every checkpoint of a pre-training, on each task.

    d is searched for by bisection unless another protocol is named. Checkpoints that have no d90
    are left out of the figure and named in the table. Finished runs are kept: the same command
    goes on where it was stopped.

    Example: d90 trajectory runs/mini --tasks sst2,mrpc --dry-run
    """
    protocol = search.protocol(default="bisect")
    with silence(files.quiet):
        from d90.experiments.trajectory import checkpoint_models, join_checkpoints
        from d90.report.paper.figure2 import trajectory as document

        chosen = None if checkpoints is None else whole_numbers("--checkpoints", checkpoints)
        steps = checkpoint_models(folder, chosen)
        options = {**subspace, **training.keywords(search.baseline_epochs), **data}
        items = build_items(list(steps), tasks, methods, protocol, options)

        def report(measured: SweepResult, links: Links, command: str) -> Document:
            points = join_checkpoints(folder, steps, measured.summaries)
            return document(points, measured.failures, links=links, command=command)

        run_items(items, files, f"trajectory-{folder.resolve().name}", report)
