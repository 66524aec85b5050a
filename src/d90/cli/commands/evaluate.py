"""`d90 evaluate`: the metrics of an adapter on a task."""

from __future__ import annotations

from typing import Annotated

import typer

from d90.cli.adapter_options import AdapterFile, BaseModel, BatchSize, progress_bar
from d90.cli.options import LABEL_COLUMN_HELP, TASK_HELP, TEXT_COLUMNS_HELP
from d90.cli.output import rows_table, silence
from d90.cli.parsing import names
from d90.cli.terminal import Terminal


def evaluate(
    file: AdapterFile,
    task: Annotated[str, typer.Argument(help=TASK_HELP, metavar="TASK")],
    base: BaseModel = None,
    batch_size: BatchSize = 64,
    max_eval_samples: Annotated[
        int | None, typer.Option(help="Maximum number of evaluation examples.")
    ] = None,
    text_columns: Annotated[
        str | None,
        typer.Option(help=TEXT_COLUMNS_HELP, metavar="NAME,NAME", show_default="as in the adapter"),
    ] = None,
    label_column: Annotated[
        str | None, typer.Option(help=LABEL_COLUMN_HELP, show_default="label")
    ] = None,
    quiet: Annotated[bool, typer.Option(help="Print only the metric of the first split.")] = False,
) -> None:
    """Evaluate an adapter on the evaluation splits of TASK.

    The last column is the best constant prediction, or for a task of generation the base model.

    Example: d90 evaluate hypernym.safetensors wordnet-hypernym
    """
    with silence(quiet):
        from d90 import adapters
        from d90.adapters import predict as prediction
        from d90.adapters.model import load
        from d90.tasks import KINDS, load_task

        adapter = adapters.load_adapter(file)
        info = adapter.task
        data = load_task(
            task,
            task_kind=info.kind,
            text_columns=info.text_columns if text_columns is None else names(text_columns),
            label_column=label_column,
            metric=info.metric,
            max_eval_samples=max_eval_samples,
        )
        prediction.check_task(adapter, data)
        model = load(base, adapter)
        with progress_bar("evaluating", quiet=quiet) as on_rows:
            scores = prediction.evaluate(model, data, batch_size=batch_size, on_rows=on_rows)
    if quiet:
        print(f"{scores[data.primary].metrics[info.metric]:.4f}")
        return
    metrics = list(scores[data.primary].metrics)
    reference = f"{KINDS[info.kind].short_reference()} ({info.metric})"
    losses = list(scores[data.primary].losses)
    table = rows_table("split", "examples", *metrics, *losses, reference)
    # In a narrow terminal the longest header is wrapped, and no name of a split is cut.
    table.columns[0].no_wrap, table.columns[-1].no_wrap = True, False
    for name, split in scores.items():
        values = (f"{value:.4f}" for value in {**split.metrics, **split.losses}.values())
        table.add_row(name, f"{split.rows:,}", *values, f"{split.majority:.4f}")
    Terminal().print(table)
