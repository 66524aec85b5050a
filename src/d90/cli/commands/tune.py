"""`d90 tune`: a fine-tune as a file of d numbers."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from d90.cli.adapter_options import rows_table, say
from d90.cli.option_groups import with_options
from d90.cli.options import (
    MODEL_HELP,
    SUBSPACE,
    TASK_HELP,
    TRAINING,
    Training,
    data_options,
    option,
    subspace_options,
    training_options,
)
from d90.distributed.launcher import rank
from d90.errors import D90Error

if TYPE_CHECKING:
    from d90.adapters.quantize import Candidate
    from d90.experiments.tune import AdapterTuner, CodecChoice, CodecTrial
    from d90.training import Progress as Step

FILE = "File"


@with_options(subspace=subspace_options, training=training_options, data=data_options)
def tune(
    model: Annotated[str, typer.Argument(help=MODEL_HELP, metavar="MODEL")],
    task: Annotated[str, typer.Argument(help=TASK_HELP, metavar="TASK")],
    *,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The file to write.", rich_help_panel=FILE)
    ],
    d: Annotated[
        int, typer.Option("--dim", "-d", help="How many numbers.", rich_help_panel=SUBSPACE)
    ] = 200,
    method: Annotated[
        str, option("did: theta_0 + P z. said: with a scale for each layer.", SUBSPACE)
    ] = "did",
    seed: Annotated[int, option("Of the projection, data order and dropout.", SUBSPACE)] = 0,
    learning_rate: Annotated[float, option("Means the same at every d.", TRAINING)] = 0.008,
    bits: Annotated[
        str,
        option(
            "Bits a number: 32, 16, 1 to 7 (levels by k-means, entropy-coded), or auto: the "
            "smallest file within the tolerance.",
            FILE,
        ),
    ] = "16",
    tolerance: Annotated[float, option("What --bits auto may lose of the metric.", FILE)] = 0.005,
    qat_epochs: Annotated[
        int, option("Passes of training through the rounding to levels.", FILE)
    ] = 0,
    quiet: Annotated[bool, option("Print the last line only.", FILE)] = False,
    subspace: Mapping[str, Any],
    training: Training,
    data: Mapping[str, Any],
) -> None:
    """Fine-tune MODEL on TASK with d numbers and write them to a file of a kilobyte or less.

    The file holds the seed of the projection, a fingerprint of the model and the numbers of the
    best epoch. Stopped, the same command goes on.

    Example: d90 tune minilm-l6 wordnet-hypernym -d 1000 --projection onehot -o hypernym.safetensors
    """
    from d90.cli.output import silence

    with silence(quiet):
        from d90.distributed.process_group import raise_on_all_ranks
        from d90.experiments import study as measurement
        from d90.experiments.tune import AdapterTuner, check_choice
        from d90.search.protocols import make_protocol

        check_choice(bits, tolerance, qat_epochs)
        with raise_on_all_ranks():
            if rank() == 0:
                _check_output(output)
        study = measurement.plan(
            model,
            task,
            method=method,
            protocol=make_protocol("list", dims=[d], learning_rates=[learning_rate], seeds=[seed]),
            **subspace,
            **training.keywords(),
            **data,
        )
        _run(AdapterTuner(study, qat_epochs=qat_epochs), output, bits, tolerance, quiet)


def _check_output(output: Path) -> None:
    from d90.cli.output import check_folder

    if output.is_dir():
        raise D90Error(f"--output '{output}' is a folder: give the name of a file.")
    check_folder(output.parent)


def _run(tuning: AdapterTuner, output: Path, bits: str, tolerance: float, quiet: bool) -> None:
    folder = tuning.checkpoint_folder(output)
    with _Display(quiet=quiet or rank() > 0) as display:
        display.begin(tuning)
        file = tuning.train(folder=folder, on_progress=display.progressed)
        choice = tuning.choose_codec(file, bits, tolerance=tolerance, on_try=display.tried)
    if rank() > 0:
        return
    size = choice.file.save(output)
    shutil.rmtree(folder, ignore_errors=True)
    if not quiet:
        _show(tuning, file.task.metric_value, choice, all_tried=bits == "auto")
    name = tuning.metric_name
    say(f"{output}: d = {tuning.trial.d:,}, {size:,} bytes, {name} {choice.metric:.4f}")


def _show(tuning: AdapterTuner, float32: float, choice: CodecChoice, *, all_tried: bool) -> None:
    if all_tried:
        table = rows_table("code", "bytes", tuning.metric_name, "kept")
        for tried in choice.tried:
            kept = "yes" if tried.kept else "no"
            table.add_row(tried.name, f"{tried.size:,}", f"{tried.metric:.4f}", kept)
        say(table)
    say(f"float32 {float32:.4f}, majority {tuning.study.majority:.4f}")
    if tuning.outcome is not None and tuning.outcome.status == "collapsed":
        say("warning: it predicts one class only: try another learning rate, or a larger d.")


class _Display:
    """Updates done, the loss and the metric: live on a terminal, a line an epoch elsewhere."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._console = Console()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=quiet or not self._console.is_terminal,
        )
        self._shown = self._bar.add_task("step", total=None)
        self._epoch = 1

    def __enter__(self) -> _Display:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def begin(self, tuning: AdapterTuner) -> None:
        subspace, settings = tuning.subspace, tuning.settings
        config = subspace.config
        self._epoch = math.ceil(len(tuning.data.train) / settings.batch_size)
        self._say(
            f"{tuning.study.model_name} on {tuning.study.task.name}: d = {subspace.d:,} of "
            f"D = {subspace.layout.D:,}, {config.method.upper()}, {config.projection}, "
            f"scale {config.scale}"
        )

    def progressed(self, step: Step) -> None:
        metric = "" if step.metric is None else f", {step.metric:.3f}"
        self._bar.update(
            self._shown,
            completed=step.step,
            total=step.steps,
            description=f"loss {step.loss:.3f}{metric}",
        )
        if step.step % self._epoch == 0 or step.step == step.steps:
            self._say(f"after {step.step:,} of {step.steps:,} updates: {step.metric:.4f}")

    def tried(self, candidate: Candidate, found: CodecTrial) -> None:
        self._bar.update(self._shown, description=f"{candidate.name}: {found.metric:.4f}")

    def _say(self, line: str) -> None:
        if not self._quiet:
            self._console.print(line, soft_wrap=True, highlight=False, markup=False)
