"""`d90 predict`: labels and probabilities of examples, or numbers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from d90.cli.adapter_options import AdapterFile, BaseModel, BatchSize, progress_bar
from d90.cli.output import print_line, silence
from d90.cli.parsing import names
from d90.cli.predictions import choose_format, read_examples, save, to_rows
from d90.utils.files import check_output_file


def predict(
    file: AdapterFile,
    texts: Annotated[
        list[str] | None,
        typer.Argument(
            help="Texts to predict on; for a task on pairs, two per example.", metavar="TEXT..."
        ),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option(
            "--input",
            "-i",
            help="File to read instead: JSON lines, CSV, TSV or Parquet with the columns of the "
            "task, or .txt with one text per line.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File to write.", show_default="standard output"),
    ] = None,
    format: Annotated[
        str | None, typer.Option(help="jsonl or csv.", show_default="by the output's suffix")
    ] = None,
    text_columns: Annotated[
        str | None,
        typer.Option(
            help="Text columns of the input.", metavar="NAME,NAME", show_default="as in the adapter"
        ),
    ] = None,
    base: BaseModel = None,
    batch_size: BatchSize = 64,
    quiet: Annotated[bool, typer.Option(help="Print nothing but the predictions.")] = False,
) -> None:
    """Predict with an adapter, as JSON lines or CSV: the label and all probabilities, or a number.

    Example: d90 predict hypernym.safetensors "a domestic cat" "an animal"
    """
    from d90 import adapters
    from d90.adapters.adapter import check_generates

    adapter = adapters.load_adapter(file)
    check_generates(adapter.task, expected=False)
    columns = adapter.task.text_columns if text_columns is None else names(text_columns)
    examples = read_examples(texts or [], source, columns, adapter.task)
    to_text = choose_format(format, output)
    if output is not None:
        check_output_file(output)
    with silence(quiet):
        from d90.adapters.model import load
        from d90.adapters.predict import predict_outputs

        model = load(base, adapter)
        with progress_bar("predicting", quiet=quiet) as on_rows:
            outputs = predict_outputs(model, examples, batch_size=batch_size, on_rows=on_rows)
    content = to_text(to_rows(examples, outputs.tolist(), adapter.task))
    if output is None:
        sys.stdout.write(content)
        return
    save(content, output)
    if not quiet:
        print_line(f"{output}: {len(examples):,} predictions")
