"""Tasks in a folder: `train` and `validation` as JSON lines, CSV, TSV or Parquet."""

from __future__ import annotations

import csv
import zlib
from collections.abc import Callable, Sequence
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from d90.errors import D90Error
from d90.tasks.tables import Table, Tables
from d90.utils.reading import open_text, parse_json, read_lines

Columns = dict[str, list[Any]]

MAX_ROWS, MAX_VALUES = 1 << 24, 1 << 27
"""Rows, and rows times columns, of JSON lines and Parquet: a short file can stand for many."""


def read_folder(folder: Path) -> Tables:
    """The splits in a folder: one file `train`, and one `validation` or several `validation_...`.

    With `validation_matched` and `validation_mismatched`, as MNLI has, the evaluation splits are
    `matched` and `mismatched`.

    Raises:
        D90Error: a missing folder or file, two files for one split, or an unreadable file.
    """
    if not folder.is_dir():
        raise D90Error(
            f"no such folder: '{folder}' (expected the name of a task or a folder with data)."
        )
    paths = _split_paths(folder)
    evaluation = {
        split.removeprefix("validation_"): read_table(path)
        for split, path in paths.items()
        if split == "validation" or split.startswith("validation_")
    }
    for split, exists in (("train", "train" in paths), ("validation", bool(evaluation))):
        if not exists:
            raise D90Error(
                f"no {split} file in '{folder}': expected {split} with one of the endings "
                f"{', '.join(READERS)}; found {', '.join(_file_names(folder)) or 'nothing'}."
            )
    return Tables(train=read_table(paths["train"]), evaluation=evaluation)


def read_bundled(name: str) -> Tables:
    """The splits of a bundled task."""
    with as_file(files("d90.tasks") / "data" / name) as folder:
        return read_folder(folder)


def read_table(path: Path) -> Table:
    """The rows of a file, whose ending determines the format.

    Raises:
        D90Error: it cannot be read; the message names the line if it is known.
    """
    reader = READERS[_ending(path)]
    try:
        return Table(where=str(path), columns=reader(path))
    except UnicodeDecodeError as error:
        raise D90Error(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}).") from error
    except (OSError, EOFError, zlib.error) as error:
        raise D90Error(f"{path}: cannot be read ({error}).") from error


def _split_paths(folder: Path) -> dict[str, Path]:
    paths: dict[str, Path] = {}
    for name in _file_names(folder):
        path = folder / name
        if _ending(path):
            split = name.removesuffix(_ending(path))
            if split in paths:
                raise D90Error(
                    f"two files for {split} in '{folder}': {paths[split].name}, {name}: keep one."
                )
            paths[split] = path
    return paths


def _file_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_file())


def _ending(path: Path) -> str:
    return next((ending for ending in READERS if path.name.endswith(ending)), "")


def _read_json_lines(path: Path) -> Columns:
    rows: list[dict[str, Any]] = []
    with open_text(path) as file:
        for number, line in enumerate(read_lines(file, str(path)), 1):
            if line.strip():
                _check_size(path, len(rows) + 1, 1)
                rows.append(_json_row(f"{path}, line {number}", line))
    names = dict.fromkeys(name for row in rows for name in row)
    _check_size(path, len(rows), len(names))
    return {name: [row.get(name) for row in rows] for name in names}


def _json_row(where: str, line: str) -> dict[str, Any]:
    row = parse_json(line, where)
    if not isinstance(row, dict):
        raise D90Error(f"{where}: expected one JSON object per line, got {line[:20]!r}.")
    return row


def _read_csv(path: Path) -> Columns:
    with open_text(path, newline="") as file:
        return _read_delimited(path, csv.reader(read_lines(file, str(path)), strict=True))


def _read_tsv(path: Path) -> Columns:
    # GLUE's TSV files are not quoted: a quotation mark is a character of the text.
    with open_text(path, newline="") as file:
        lines = read_lines(file, str(path))
        return _read_delimited(path, csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))


def _read_delimited(path: Path, lines: Any) -> Columns:
    rows: list[list[str]] = []
    try:
        header = _different(next(lines, []), path)
        for row in lines:
            if row and len(row) != len(header):
                raise D90Error(
                    f"{path}, line {lines.line_num}: {len(row)} fields where the header has "
                    f"{len(header)}."
                )
            rows.extend([row] if row else [])
    except csv.Error as error:
        raise D90Error(f"{path}, line {lines.line_num}: {error}.") from error
    return {name: [row[i] for row in rows] for i, name in enumerate(header)}


def _read_parquet(path: Path) -> Columns:
    import pyarrow
    from pyarrow import parquet

    try:
        size = parquet.read_metadata(path)
        _check_size(path, size.num_rows, size.num_columns)
        table = parquet.read_table(path)
        names = _different(table.column_names, path)
        return {name: _values(column) for name, column in zip(names, table.columns, strict=True)}
    except pyarrow.ArrowException as error:
        raise D90Error(f"{path}: not a Parquet file.") from error


def _values(column: Any) -> list[Any]:
    """The values of a Parquet column; none where Python has no such values, as far dates."""
    try:
        return column.to_pylist()
    except (ValueError, OverflowError):
        return [None] * len(column)


def _different(names: Sequence[str], path: Path) -> Sequence[str]:
    for name in names:
        if names.count(name) > 1:
            raise D90Error(f"{path}: two columns are called '{name[:50]}': rename one.")
    return names


def _check_size(path: Path, rows: int, columns: int) -> None:
    if rows > MAX_ROWS:
        raise D90Error(f"{path}: more than {MAX_ROWS:,} rows: give a part of it.")
    if rows * columns > MAX_VALUES:
        raise D90Error(
            f"{path}: {rows:,} rows of {columns:,} columns: give a part of it, or fewer columns."
        )


READERS: dict[str, Callable[[Path], Columns]] = {
    ".jsonl": _read_json_lines,
    ".jsonl.gz": _read_json_lines,
    ".json": _read_json_lines,
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".parquet": _read_parquet,
}
