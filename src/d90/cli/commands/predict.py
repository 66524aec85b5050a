"""`d90 predict`: labels and probabilities of texts."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from d90.cli.adapter_options import BaseModel, BatchSize, File, rows_shown, say
from d90.cli.output import silence
from d90.cli.parsing import names
from d90.errors import D90Error, unknown_name

if TYPE_CHECKING:
    from d90.adapters import TaskInfo

Row = dict[str, Any]


def predict(
    file: File,
    texts: Annotated[
        list[str] | None,
        typer.Argument(help="Texts; for a task on pairs, two and two.", metavar="TEXT..."),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option(
            "--input",
            "-i",
            help="Or a file: JSON lines, CSV, TSV or Parquet with the task's columns, or .txt with "
            "a text a line.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write here.", show_default="standard output"),
    ] = None,
    format: Annotated[
        str | None, typer.Option(help="jsonl or csv.", show_default="by the output's ending")
    ] = None,
    text_columns: Annotated[
        str | None,
        typer.Option(
            help="Columns of the input.", metavar="NAME,NAME", show_default="as in the file"
        ),
    ] = None,
    base: BaseModel = None,
    batch_size: BatchSize = 64,
    quiet: Annotated[bool, typer.Option(help="No bar and no last line.")] = False,
) -> None:
    """Label texts with a task file: one JSON object or CSV row for each, with all probabilities.

    Example: d90 predict hypernym.safetensors "a domestic cat" "an animal"
    """
    from d90 import adapters

    found = adapters.load_adapter(file)
    columns = found.task.text_columns if text_columns is None else names(text_columns)
    rows = _rows(texts or [], source, columns, found.task)
    write = _writer(format, output)
    with silence(quiet):
        from d90.adapters.model import load
        from d90.adapters.predict import predict_probabilities

        model = load(base, found)
        with rows_shown("predicting", quiet=quiet) as on_rows:
            shares = predict_probabilities(model, rows, batch_size=batch_size, on_rows=on_rows)
    answers = [
        _answer(row, share, found.task) for row, share in zip(rows, shares.tolist(), strict=True)
    ]
    content = write(answers)
    if output is None:
        sys.stdout.write(content)
        return
    _save(content, output)
    if not quiet:
        say(f"{output}: {len(answers):,} predictions")


def _rows(
    texts: Sequence[str], source: Path | None, columns: Sequence[str], use: TaskInfo
) -> list[tuple[str, ...]]:
    """The texts to label, one tuple a row."""
    if (source is None) == (not texts):
        raise D90Error("give texts, or a file of them with --input: one of the two.")
    if source is not None:
        return _read(source, columns)
    width = len(use.text_columns)
    if len(texts) % width:
        raise D90Error(f"{len(texts)} texts: the task is on {' and '.join(use.text_columns)}.")
    return [tuple(texts[i : i + width]) for i in range(0, len(texts), width)]


def _read(source: Path, columns: Sequence[str]) -> list[tuple[str, ...]]:
    from d90.tasks.local import READERS, read_table
    from d90.tasks.tables import read_texts

    if source.name.endswith(".txt"):
        if len(columns) > 1:
            raise D90Error(f"'{source}': a .txt has one text a row, the task {len(columns)}.")
        try:
            lines = source.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise D90Error(f"'{source}' cannot be read ({error}).") from error
        rows = [(line,) for line in lines if line.strip()]
    elif source.name.endswith(tuple(READERS)):
        table = read_table(source)
        rows = list(read_texts(table, columns, range(len(table))))
    else:
        raise D90Error(f"--input '{source}': expected one of .txt, {', '.join(READERS)}.")
    if not rows:
        raise D90Error(f"--input '{source}' has no rows.")
    return rows


def _answer(texts: tuple[str, ...], shares: Sequence[float], use: TaskInfo) -> Row:
    label = max(range(len(shares)), key=shares.__getitem__)
    return {
        **dict(zip(use.text_columns, texts, strict=True)),
        "label": use.labels[label],
        "probabilities": dict(zip(use.labels, (round(share, 6) for share in shares), strict=True)),
    }


def _jsonl(answers: Iterable[Row]) -> str:
    return "".join(json.dumps(answer, ensure_ascii=False) + "\n" for answer in answers)


def _csv(answers: Sequence[Row]) -> str:
    """With a column for the probability of each class, `p(NAME)`."""
    flat = [
        {
            **{name: value for name, value in answer.items() if name != "probabilities"},
            **{f"p({label})": share for label, share in answer["probabilities"].items()},
        }
        for answer in answers
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(flat[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue()


FORMATS: dict[str, Callable[[Sequence[Row]], str]] = {"jsonl": _jsonl, "csv": _csv}


def _writer(format: str | None, output: Path | None) -> Callable[[Sequence[Row]], str]:
    ending = "" if output is None else output.suffix.removeprefix(".")
    name = format or (ending if ending in FORMATS else "jsonl")
    if name not in FORMATS:
        raise unknown_name("format", name, FORMATS)
    return FORMATS[name]


def _save(content: str, output: Path) -> None:
    from d90.utils.files import atomic_write

    try:
        atomic_write(output, content)
    except OSError as error:
        raise D90Error(f"--output '{output}' cannot be written ({error.strerror}).") from error
