"""`d90 evaluate`: a task file on a task."""

from __future__ import annotations

from typing import Annotated

import typer

from d90.cli.adapter_options import BaseModel, BatchSize, File, rows_shown, rows_table, say
from d90.cli.options import TASK_HELP
from d90.cli.output import silence
from d90.cli.parsing import names


def evaluate(
    file: File,
    task: Annotated[str, typer.Argument(help=TASK_HELP, metavar="TASK")],
    base: BaseModel = None,
    batch_size: BatchSize = 64,
    max_eval_samples: Annotated[int | None, typer.Option(help="Evaluation rows, at most.")] = None,
    text_columns: Annotated[
        str | None,
        typer.Option(
            help="One column, or two for pairs.",
            metavar="NAME,NAME",
            show_default="as in the file",
        ),
    ] = None,
    label_column: Annotated[str | None, typer.Option(help="Of the classes.")] = None,
    quiet: Annotated[bool, typer.Option(help="Print the metric of the first split only.")] = False,
) -> None:
    """Measure a task file on the evaluation splits of TASK, beside the majority class.

    Example: d90 evaluate hypernym.safetensors wordnet-hypernym
    """
    with silence(quiet):
        from d90 import adapters
        from d90.adapters import predict as prediction
        from d90.adapters.model import load
        from d90.tasks import load_task

        found = adapters.load_adapter(file)
        use = found.task
        data = load_task(
            task,
            text_columns=use.text_columns if text_columns is None else names(text_columns),
            label_column=label_column,
            metric=use.metric,
            max_eval_samples=max_eval_samples,
        )
        prediction.check_classes(found, data)
        model = load(base, found)
        with rows_shown("evaluating", quiet=quiet) as on_rows:
            scores = prediction.evaluate(model, data, batch_size=batch_size, on_rows=on_rows)
    if quiet:
        print(f"{scores[data.primary].metrics[use.metric]:.4f}")
        return
    metrics = list(scores[data.primary].metrics)
    table = rows_table("split", "rows", *metrics, f"majority ({use.metric})")
    for name, split in scores.items():
        values = (f"{split.metrics[metric]:.4f}" for metric in metrics)
        table.add_row(name, f"{split.rows:,}", *values, f"{split.majority:.4f}")
    say(table)
