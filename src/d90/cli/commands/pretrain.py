"""`d90 pretrain`: masked language modeling from scratch, with checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from d90.cli.option_groups import with_options
from d90.cli.options import FILES, TRAINING, Config, option
from d90.cli.pretrain_options import (
    CORPUS_HELP,
    checkpoint_options,
    model_options,
    optimizer_options,
)
from d90.cli.terminal import Terminal

if TYPE_CHECKING:
    from d90.pretraining.plan import PretrainJob


@with_options(model=model_options, optimizer=optimizer_options, checkpoints=checkpoint_options)
def pretrain(
    corpus: Annotated[list[str], typer.Argument(help=CORPUS_HELP, metavar="CORPUS...")],
    output: Annotated[
        Path, option("Folder of the run; an existing run is resumed.", FILES, "--output", "-o")
    ],
    *,
    model: Mapping[str, Any],
    optimizer: Mapping[str, Any],
    max_minutes: Annotated[
        float | None,
        option(
            "Stop with a checkpoint after so many minutes; rerun the command to resume.", TRAINING
        ),
    ] = None,
    checkpoints: Mapping[str, Any],
    config: Config = None,
    dry_run: Annotated[
        bool, option("Print the size, memory and time, without training.", FILES)
    ] = False,
    quiet: Annotated[bool, option("Print only the last line.", FILES)] = False,
) -> None:
    """Pre-train a RoBERTa from scratch on CORPUS: masked language modeling, with checkpoints.

    Rerun the command to resume, with the same result as without an interruption.

    Example: d90 pretrain texts/ -o micro --size micro --max-steps 10000
    """
    from d90.cli.output import silence

    with silence(quiet):
        from d90.pretraining.plan import plan_pretraining

        job = plan_pretraining(corpus, **model, **optimizer, **checkpoints)
        if dry_run:
            from d90.cli.progress.pretrain import show_cost

            show_cost(job, Terminal())
        else:
            _pretrain(job, output, max_minutes, quiet)


def _pretrain(job: PretrainJob, folder: Path, max_minutes: float | None, quiet: bool) -> None:
    from d90.cli.output import command_line
    from d90.cli.progress.pretrain import PretrainProgress, show_summary
    from d90.pretraining.pretrain import pretrain

    command = command_line()
    with PretrainProgress(Terminal(), quiet=quiet) as progress:
        summary = pretrain(job, folder, max_minutes=max_minutes, callback=progress, command=command)
    show_summary(summary, folder)
