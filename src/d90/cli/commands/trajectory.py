"""`d90 trajectory`: the paper's Figure 2, from the checkpoints of `d90 pretrain`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from d90.cli.options import (
    ProtocolOptions,
    RunOptions,
    TrainingOptions,
    option,
    study_options,
)
from d90.cli.output import silence
from d90.cli.parsing import integers
from d90.cli.sweep import STUDIES, Links, Methods, Tasks, build_items, run_items
from d90.errors import D90Error

if TYPE_CHECKING:
    from d90.experiments.sweep import SweepResult
    from d90.report.document import Document


@study_options
def trajectory(
    models: Annotated[
        list[str],
        typer.Argument(
            help="Output folder of d90 pretrain, or the models of a series in its order, such as "
            "revisions of a hub id: MODEL@REVISION.",
            metavar="DIR|MODEL...",
        ),
    ],
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
    """Figure 2: d90 along pre-training: of every checkpoint, or of a series of models.

    The default protocol is adaptive. Checkpoints without a d90 are missing from the figure and
    listed in the table. Finished trials are stored: rerun the command to resume.

    Example: d90 trajectory runs/mini --tasks sst2,mrpc --dry-run
    """
    search = protocol.make()
    with silence(run.quiet):
        from d90.experiments.trajectory import (
            checkpoint_models,
            join_checkpoints,
            label_checkpoints,
        )
        from d90.report.paper.figure2 import trajectory as document

        run.check()
        selected = None if checkpoints is None else integers("--checkpoints", checkpoints)
        is_series = len(models) > 1
        if is_series and selected is not None:
            raise D90Error("--checkpoints selects from one folder: leave it out of several models.")
        steps = {} if is_series else checkpoint_models(models[0], selected)
        options = {**subspace, **training.keywords(protocol), **data}
        items = build_items(models if is_series else list(steps), tasks, methods, search, options)

        def report(result: SweepResult, links: Links, command: str) -> Document:
            if is_series:
                points = label_checkpoints(models, result.summaries)
            else:
                points = join_checkpoints(models[0], steps, result.summaries)
            return document(points, result.failures, links=links, command=command)

        run_items(items, run, f"trajectory-{Path(models[0]).resolve().name}", report)
