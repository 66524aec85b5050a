"""Files of `d90 predict`: examples in, predictions out."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from d90.errors import D90Error, unknown_name
from d90.utils.reading import check_encodable, read_text

if TYPE_CHECKING:
    from d90.adapters import TaskInfo

Example = tuple[str, ...]
Row = dict[str, Any]
Format = Callable[[Sequence[Row]], str]


def read_examples(
    texts: Sequence[str], source: Path | None, columns: Sequence[str], task: TaskInfo
) -> list[Example]:
    """The examples to predict on, from the command line or a file.

    Raises:
        D90Error: none or both are given; the file cannot be read; a text of a pair is missing.
    """
    if (source is None) == (not texts):
        raise D90Error("give either texts or a file with --input.")
    if source is not None:
        return _read_file(source, columns)
    width = len(task.text_columns)
    if len(texts) % width:
        raise D90Error(
            f"{len(texts)} texts: an example of this task has {width}, "
            f"{' and '.join(task.text_columns)}."
        )
    for number, text in enumerate(texts, 1):
        try:
            check_encodable(text)
        except ValueError as error:
            raise D90Error(f"text {number} is not UTF-8 ({error}).") from error
    return [tuple(texts[i : i + width]) for i in range(0, len(texts), width)]


def _read_file(source: Path, columns: Sequence[str]) -> list[Example]:
    from d90.tasks.local import READERS, read_table
    from d90.tasks.tables import read_texts

    if source.name.endswith(".txt"):
        if len(columns) > 1:
            raise D90Error(
                f"--input '{source}': a .txt file has one text per example, the task has "
                f"{len(columns)}."
            )
        lines = read_text(source, "--input").splitlines()
        examples = [(line,) for line in lines if line.strip()]
    elif source.name.endswith(tuple(READERS)):
        table = read_table(source)
        examples = list(read_texts(table, columns, range(len(table))))
    else:
        raise D90Error(f"--input '{source}': expected one of .txt, {', '.join(READERS)}.")
    if not examples:
        raise D90Error(f"--input '{source}' has no examples.")
    return examples


def to_rows(
    examples: Sequence[Example], outputs: Sequence[Sequence[float]], task: TaskInfo
) -> list[Row]:
    """One row per example: its texts and what is predicted (`Kind.to_row`)."""
    from d90.tasks import kind_of

    kind = kind_of(task)
    return [
        {**dict(zip(task.text_columns, example, strict=True)), **kind.to_row(values)}
        for example, values in zip(examples, outputs, strict=True)
    ]


def choose_format(name: str | None, output: Path | None) -> Format:
    """The format of that name; without a name, by the output's suffix, else JSON lines.

    Raises:
        D90Error: an unknown name.
    """
    suffix = "" if output is None else output.suffix.removeprefix(".")
    if name is None:
        name = suffix if suffix in FORMATS else "jsonl"
    if name not in FORMATS:
        raise unknown_name("format", name, FORMATS)
    return FORMATS[name]


def save(content: str, output: Path) -> None:
    """Write the predictions atomically.

    Raises:
        D90Error: the file cannot be written.
    """
    from d90.utils.files import atomic_write

    try:
        atomic_write(output, content)
    except OSError as error:
        raise D90Error(f"--output '{output}' cannot be written ({error.strerror}).") from error


def _to_jsonl(rows: Iterable[Row]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _to_csv(rows: Sequence[Row]) -> str:
    """With a column for the probability of each class, `p(NAME)`."""
    flat = [
        {
            **{name: value for name, value in row.items() if name != "probabilities"},
            **{f"p({label})": value for label, value in row.get("probabilities", {}).items()},
        }
        for row in rows
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(flat[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue()


FORMATS: dict[str, Format] = {"jsonl": _to_jsonl, "csv": _to_csv}
