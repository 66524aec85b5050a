"""Converts the values of a label column to class indices 0..k-1."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from d90.errors import D90Error, unknown_name
from d90.tasks.tables import Table, Tables
from d90.utils.reading import MAX_DIGITS

Parsed = TypeVar("Parsed")


@dataclass(frozen=True)
class Classes:
    """The classes of a task: class indices with names, or names only.

    Attributes:
        names: by class index.
        integers: whether the column contains class indices rather than names.
    """

    names: tuple[str, ...]
    integers: bool

    def encode(self, table: Table, column: str) -> list[int]:
        """The class index of every row.

        Raises:
            D90Error: a missing label, or one that the training split does not have.
        """
        indices = {name: index for index, name in enumerate(self.names)}
        known = range(len(self.names)) if self.integers else indices
        labels = read_labels(table, column)
        for row, label in enumerate(labels):
            if label not in known:
                raise self._out_of_range(label, f"{table.where}, row {row + 1}")
        return labels if self.integers else [indices[label] for label in labels]

    def _out_of_range(self, label: int | str, where: str) -> D90Error:
        if not self.integers and isinstance(label, str):
            return unknown_name(
                f"label ({where}; the choices are those of train)", label, self.names
            )
        expected = f"0..{len(self.names) - 1}" if self.integers else "one of the names in train"
        hint = " (-1 marks a hidden label in GLUE test files)" if label == -1 else ""
        return D90Error(f"{where}: label {label!r} is out of range{hint}, expected {expected}.")


def find_classes(tables: Tables, column: str) -> Classes:
    """The classes that the source defines, otherwise those of the training split.

    Integers must be 0..k-1 and are unchanged; names are sorted alphabetically.

    Raises:
        D90Error: fewer than two classes, integers with gaps, or integers and names mixed.
    """
    if column in tables.classes:
        return Classes(names=tables.classes[column], integers=True)
    where = tables.train.where
    values = set(read_labels(tables.train, column))
    if len(values) < 2:
        raise D90Error(f"{where}: only one class ({_list(values)}), a task needs two or more.")
    names = {value for value in values if isinstance(value, str)}
    if names and names != values:
        raise D90Error(
            f"{where}: column '{column}' mixes integers ({_list(values - names)}) and names "
            f"({_list(names)}): use one kind."
        )
    if not names and values != set(range(len(values))):
        raise D90Error(
            f"{where}: integer labels must be 0..{len(values) - 1} for {len(values)} classes, got "
            f"{_list(values)}: number the classes from 0, give them names, or set "
            "task_kind to regression."
        )
    return Classes(names=tuple(str(value) for value in sorted(values)), integers=not names)


def read_labels(table: Table, column: str) -> list[Any]:
    """The labels as integers (also parsed from digits, as in CSV) or names.

    Raises:
        D90Error: a label is missing or of another type.
    """
    return parse_labels(
        table,
        column,
        _label,
        problem=lambda value: f"{value!r} is not an integer or name",
        hint=lambda value: ", and task_kind is not regression" if isinstance(value, float) else "",
    )


def parse_labels(
    table: Table,
    column: str,
    parse: Callable[[Any], Parsed | None],
    *,
    problem: Callable[[Any], str],
    hint: Callable[[Any], str] = lambda value: "",
) -> list[Parsed]:
    """The labels of a column.

    Args:
        table, column: where they are.
        parse: a label from a value; None if it is none.
        problem: what is wrong with such a value.
        hint: the end of the message about it.

    Raises:
        D90Error: a label is missing or cannot be parsed; the message names its row.
    """
    labels = []
    for row, value in enumerate(table.column(column), 1):
        label = parse(value)
        if label is None:
            what = "missing label" if is_missing(value) else problem(value)
            raise D90Error(f"{table.where}, row {row}: {what} in column '{column}'{hint(value)}.")
        labels.append(label)
    return labels


def _label(value: Any) -> int | str | None:
    if isinstance(value, str) and value:
        if not re.fullmatch(r"-?[0-9]+", value):
            return value
        return int(value) if len(value) <= MAX_DIGITS else None
    return int(value) if isinstance(value, int) else None


def is_missing(value: Any) -> bool:
    """Whether a label is none: empty, or NaN as tables have it."""
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def _list(values: Sequence[int | str] | set[Any], most: int = 5) -> str:
    shown = [str(value) for value in sorted(values)]
    return ", ".join(shown[:most] + ["..."] * (len(shown) > most))
