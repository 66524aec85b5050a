"""`d90 measure`: d90 of a model on a task, with its curve."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from d90.cli.config import from_file
from d90.cli.numbers import rates, whole_numbers

MODEL_HELP = "`minilm-l6`, a local folder with safetensors, or a hub id."
TASK_HELP = (
    "mrpc, qqp, sst2, mnli, anli, yelp, wordnet-supersense, wordnet-hypernym, or a folder with "
    "`train` and `validation` files (JSON lines, CSV, TSV, Parquet)."
)


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
        str, _option("Which d to try: grid, bisect, or list with --dims.", SEARCH)
    ] = "grid",
    dims: Annotated[
        str | None, _option("The d to try, as 10,100,1000; means --protocol list.", SEARCH)
    ] = None,
    min_dim: Annotated[int | None, _option("Smallest d of grid or bisect.", SEARCH)] = None,
    max_dim: Annotated[int | None, _option("Largest d of grid or bisect.", SEARCH)] = None,
    count: Annotated[int | None, _option("How many d in the grid.", SEARCH)] = None,
    learning_rates: Annotated[
        str | None, _option("Of the subspace runs; they mean the same at every d.", SEARCH)
    ] = None,
    full_learning_rates: Annotated[
        str | None, _option("Of full fine-tuning, the baseline.", SEARCH)
    ] = None,
    seeds: Annotated[str, _option("Projection seeds; two or more give an interval.", SEARCH)] = "0",
    satisfaction: Annotated[
        float, _option("Share of the full metric that counts as reached.", SEARCH)
    ] = 0.9,
    epochs: Annotated[int, _option("Passes over the training split.", TRAINING)] = 4,
    steps: Annotated[int | None, _option("Updates, in place of epochs.", TRAINING)] = None,
    batch_size: Annotated[int, _option("Texts a step.", TRAINING)] = 32,
    max_length: Annotated[int, _option("Tokens a text or pair, at most.", TRAINING)] = 128,
    dtype: Annotated[
        str, _option("Of the weights, whatever the checkpoint holds.", TRAINING)
    ] = "float32",
    precision: Annotated[
        str, _option("Autocast: auto (bf16 on a GPU that has it), bf16 or no.", TRAINING)
    ] = "auto",
    train_limit: Annotated[int | None, _option("Training rows, at most.", DATA)] = None,
    eval_limit: Annotated[int | None, _option("Evaluation rows, at most.", DATA)] = None,
    metric: Annotated[str | None, _option("accuracy, f1 or macro_f1.", DATA)] = None,
    text_columns: Annotated[
        str | None, _option("One or two, as premise,hypothesis. [default: by name]", DATA)
    ] = None,
    label_column: Annotated[str | None, _option("[default: label]", DATA)] = None,
    head_seed: Annotated[int, _option("Of the new classification head.", DATA)] = 0,
    store: Annotated[
        str, _option("Finished runs: a file (SQLite) or a database URL.", FILES)
    ] = "d90.db",
    output: Annotated[
        Path | None, _option("Folder of the report. [default: reports/STUDY]", FILES)
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

    [bold]Examples[/]

      d90 measure minilm-l6 wordnet-supersense --dims 30,100,300,1000 --output report

      d90 measure roberta-large mrpc --method said --protocol bisect --seeds 0,1,2 --plan
    """
    from d90.measure import plan as plan_study
    from d90.protocols import make
    from d90.training import TrainSettings

    own_rates: Mapping[str, Any] = {
        name: rates(name, text)
        for name, text in (
            ("learning_rates", learning_rates),
            ("full_learning_rates", full_learning_rates),
        )
        if text is not None
    }
    chosen = make(
        "list" if dims is not None and protocol == "grid" else protocol,
        dims=None if dims is None else whole_numbers("dims", dims),
        min_dim=min_dim,
        max_dim=max_dim,
        count=count,
        seeds=whole_numbers("seeds", seeds),
        satisfaction=satisfaction,
        **own_rates,
    )
    training = TrainSettings(
        1.0, epochs=epochs, steps=steps, batch_size=batch_size, precision=precision
    )
    study = plan_study(
        model,
        task,
        method=method,
        groups=groups,
        projection=projection,
        scale=scale,
        protocol=chosen,
        training=training,
        full_training=replace(training, optimizer="adamw", weight_decay=0.01),
        max_length=max_length,
        train_limit=train_limit,
        eval_limit=eval_limit,
        text_columns=None if text_columns is None else text_columns.split(","),
        label_column=label_column,
        metric=metric,
        dtype=dtype,
        head_seed=head_seed,
    )
    if plan:
        from d90.cli.plan import show_plan

        show_plan(study, Console())
    else:
        _run(study, store, output, quiet)


def _run(study: Any, store: str, output: Path | None, quiet: bool) -> None:
    from d90.cli.display import Display
    from d90.measure import run
    from d90.report import render_text, write_report
    from d90.report.words import answer
    from d90.store import Store

    console = Console()
    command = shlex.join(["d90", *sys.argv[1:]])
    with Display(console, quiet=quiet) as display:
        summary = run(study, Store(store), listener=display, command=command)
    paths = write_report(summary, output or Path("reports") / study.prefix)
    console.print(answer(summary) if quiet else render_text(summary))
    if not quiet:
        console.print(f"report: {paths.page}", soft_wrap=True)
