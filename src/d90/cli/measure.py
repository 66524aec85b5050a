"""`d90 measure`: d90 of a model on a task, with its curve."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from d90.cli.config import from_file
from d90.cli.lists import names, rates, whole_numbers
from d90.protocols import FULL_LEARNING_RATES, LEARNING_RATES, make

if TYPE_CHECKING:
    from d90.measurement import Study
    from d90.training import TrainSettings

MODEL_HELP = "minilm-l6, a folder with config.json and safetensors, or a hub id."
TASK_HELP = (
    "mrpc, qqp, sst2, mnli, anli, yelp, wordnet-supersense, wordnet-hypernym, or a folder with "
    "train and validation files (JSON lines, CSV, TSV, Parquet)."
)


def _listed(rates: Sequence[float]) -> str:
    return ",".join(f"{rate:g}" for rate in rates)


def _option(help: str, panel: str, **settings: Any) -> Any:
    return typer.Option(help=help, rich_help_panel=panel, **settings)


SUBSPACE, SEARCH, TRAINING, DATA, FILES = "Subspace", "Search", "Training", "Data", "Files"


def measure(
    model: Annotated[str, typer.Argument(help=MODEL_HELP, metavar="MODEL")],
    task: Annotated[str, typer.Argument(help=TASK_HELP, metavar="TASK")],
    method: Annotated[
        str, _option("did: theta_0 + P z. said: with a scale for each layer.", SUBSPACE)
    ] = "did",
    groups: Annotated[str, _option("SAID scales: layer, module or tensor.", SUBSPACE)] = "layer",
    projection: Annotated[
        str, _option("P: fastfood, onehot, sparse or dense (slow).", SUBSPACE)
    ] = "fastfood",
    scale: Annotated[
        str, _option("How far each tensor moves: tensor, model, rms or vectors.", SUBSPACE)
    ] = "tensor",
    protocol: Annotated[
        str | None,
        _option(
            "Which d to try: a grid, bisect (binary search) or list (--dims).",
            SEARCH,
            show_default="list with --dims, else grid",
        ),
    ] = None,
    dims: Annotated[str | None, _option("The d to try.", SEARCH, metavar="D,D,...")] = None,
    min_dim: Annotated[
        int | None, _option("Smallest d.", SEARCH, show_default="10, bisect 100")
    ] = None,
    max_dim: Annotated[
        int | None, _option("Largest d.", SEARCH, show_default="10000, bisect 4000000")
    ] = None,
    count: Annotated[int | None, _option("d in the grid.", SEARCH, show_default="100")] = None,
    learning_rates: Annotated[
        str | None,
        _option(
            "Of the subspace runs; they mean the same at every d.",
            SEARCH,
            metavar="X,X,...",
            show_default=_listed(LEARNING_RATES),
        ),
    ] = None,
    full_learning_rates: Annotated[
        str | None,
        _option(
            "Of full fine-tuning, the baseline.",
            SEARCH,
            metavar="X,X,...",
            show_default=_listed(FULL_LEARNING_RATES),
        ),
    ] = None,
    seeds: Annotated[
        str,
        _option("Projection seeds; two or more give an interval.", SEARCH, metavar="N,N,..."),
    ] = "0",
    satisfaction: Annotated[
        float, _option("Share of the full metric that counts as reached.", SEARCH)
    ] = 0.9,
    epochs: Annotated[int, _option("Passes over the training split.", TRAINING)] = 4,
    steps: Annotated[int | None, _option("Updates, in place of epochs.", TRAINING)] = None,
    full_epochs: Annotated[
        int | None,
        _option("Passes of full fine-tuning.", TRAINING, show_default="as the subspace runs"),
    ] = None,
    batch_size: Annotated[int, _option("Texts a step.", TRAINING)] = 32,
    max_length: Annotated[int, _option("Tokens a text or pair, at most.", TRAINING)] = 128,
    dtype: Annotated[
        str, _option("Of the weights, whatever the checkpoint holds.", TRAINING)
    ] = "float32",
    precision: Annotated[
        str, _option("Autocast: auto (bf16 where the machine has it), bf16 or no.", TRAINING)
    ] = "auto",
    train_limit: Annotated[int | None, _option("Training rows, at most.", DATA)] = None,
    eval_limit: Annotated[int | None, _option("Evaluation rows, at most.", DATA)] = None,
    metric: Annotated[str | None, _option("accuracy, f1 or macro_f1.", DATA)] = None,
    text_columns: Annotated[
        str | None,
        _option(
            "One column, or two for pairs.",
            DATA,
            metavar="NAME,NAME",
            show_default="found by name",
        ),
    ] = None,
    label_column: Annotated[
        str | None, _option("Of the classes.", DATA, show_default="label")
    ] = None,
    head_seed: Annotated[int, _option("Of the new classification head.", DATA)] = 0,
    store: Annotated[
        str, _option("Finished runs: a file (SQLite) or a database URL.", FILES)
    ] = "d90.db",
    output: Annotated[
        Path | None, _option("Folder of the report.", FILES, show_default="reports/STUDY")
    ] = None,
    config: Annotated[
        Path | None,
        _option(
            "TOML file with any of these options, same names; the command line wins.",
            FILES,
            callback=from_file,
            is_eager=True,
        ),
    ] = None,
    plan: Annotated[bool, _option("Print the trials, memory and time, and stop.", FILES)] = False,
    quiet: Annotated[bool, _option("Print the answer only.", FILES)] = False,
) -> None:
    """Measure d90: the fewest numbers that fine-tune MODEL on TASK to 90% of full fine-tuning.

    Finished runs are kept: the same command goes on where it was stopped, at any moment.

    Example: d90 measure minilm-l6 wordnet-supersense --dims 30,100,300,1000

    With --plan it says what that would run, and in what time and memory, and stops.
    """
    from d90.cli.output import silence

    own_rates: Mapping[str, Any] = {
        option.replace("-", "_"): rates(f"--{option}", text)
        for option, text in (
            ("learning-rates", learning_rates),
            ("full-learning-rates", full_learning_rates),
        )
        if text is not None
    }
    search = make(
        protocol or ("grid" if dims is None else "list"),
        dims=None if dims is None else whole_numbers("--dims", dims),
        min_dim=min_dim,
        max_dim=max_dim,
        count=count,
        seeds=whole_numbers("--seeds", seeds),
        satisfaction=satisfaction,
        **own_rates,
    )
    with silence(quiet):
        from d90 import measurement
        from d90.training import TrainSettings

        training = TrainSettings(
            1.0, epochs=epochs, steps=steps, batch_size=batch_size, precision=precision
        )
        study = measurement.plan(
            model,
            task,
            method=method,
            groups=groups,
            projection=projection,
            scale=scale,
            protocol=search,
            training=training,
            full_training=_full_training(training, full_epochs),
            max_length=max_length,
            train_limit=train_limit,
            eval_limit=eval_limit,
            text_columns=None if text_columns is None else names(text_columns),
            label_column=label_column,
            metric=metric,
            dtype=dtype,
            head_seed=head_seed,
        )
        if plan:
            _show_plan(study)
        else:
            _run(study, store, output, quiet)


def _show_plan(study: Study) -> None:
    from d90.cli.plan import show_plan

    show_plan(study)


def _full_training(training: TrainSettings, epochs: int | None) -> TrainSettings:
    """How the baseline is trained: like the subspace runs, but with AdamW, and maybe longer."""
    full = replace(training, optimizer="adamw", weight_decay=0.01)
    return full if epochs is None else replace(full, epochs=epochs, steps=None)


def _run(study: Study, store: str, output: Path | None, quiet: bool) -> None:
    from d90.cli.display import Display
    from d90.cli.output import check_folder, show
    from d90.measurement import run
    from d90.report import write_report
    from d90.store import Store

    opened = Store(store)
    folder = output or Path("reports") / study.name
    check_folder(folder)
    command = shlex.join(["d90", *sys.argv[1:]])
    with Display(Console(), quiet=quiet) as display:
        summary = run(study, opened, listener=display, command=command)
    show(summary, write_report(summary, folder), quiet=quiet)
