"""Tables read from files or the hub, and how their text and label columns are found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from d90.errors import D90Error, unknown_name

# In order of preference, pairs first: QNLI has both `question` and `sentence`.
TEXT_COLUMNS: tuple[tuple[str, ...], ...] = (
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("question", "passage"),
    ("text1", "text2"),
    ("gloss", "candidate"),
    ("sentence",),
    ("text",),
    ("gloss",),
    ("review",),
    ("content",),
)
LABEL_COLUMN = "label"


@dataclass(frozen=True)
class Table:
    """One split as it was read.

    Attributes:
        where: its name in error messages.
        columns: values by column, all of the same length.
    """

    where: str
    columns: Mapping[str, Sequence[Any]]

    def __len__(self) -> int:
        return max(map(len, self.columns.values()), default=0)

    def column(self, name: str) -> Sequence[Any]:
        """The values of a column.

        Raises:
            D90Error: there is no such column.
        """
        if name not in self.columns:
            raise unknown_name(f"column of {self.where}", name, self.columns)
        return self.columns[name]


@dataclass(frozen=True)
class Tables:
    """The splits of a task as they were read.

    Attributes:
        train: the rows to train on.
        evaluation: the splits to evaluate on, the primary one first.
        classes: the names of the classes of a column of integers, if the source defines them.
        options: of the task, where the user gives none (`Kind.given_options`).
    """

    train: Table
    evaluation: Mapping[str, Table]
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)

    def all(self) -> tuple[Table, ...]:
        """Every table, the training split first."""
        return (self.train, *self.evaluation.values())


def find_text_columns(table: Table, given: Sequence[str] | None) -> tuple[str, ...]:
    """The text columns: those given, or the first entry of `TEXT_COLUMNS` in the table.

    Raises:
        D90Error: a given column does not exist, or none was given and none is found.
    """
    if given is not None:
        names = (given,) if isinstance(given, str) else tuple(given)
        if not 1 <= len(names) <= 2:
            raise D90Error(f"text_columns must name one or two columns, got {len(names)}.")
        for name in names:
            table.column(name)
        return names
    for names in TEXT_COLUMNS:
        if all(name in table.columns for name in names):
            return names
    raise D90Error(
        f"no text column found by name in {table.where}, which has {', '.join(table.columns)}: "
        "name one or two of them in text_columns."
    )


def find_label_column(table: Table, given: str | None) -> str:
    """The label column: the one given, otherwise `label`.

    Raises:
        D90Error: it does not exist.
    """
    if given is None and LABEL_COLUMN not in table.columns:
        raise D90Error(
            f"no column '{LABEL_COLUMN}' in {table.where}, which has {', '.join(table.columns)}: "
            "name another in label_column."
        )
    name = LABEL_COLUMN if given is None else given
    table.column(name)
    return name


def read_texts(
    table: Table, names: Sequence[str], rows: Sequence[int]
) -> tuple[tuple[str, ...], ...]:
    """The texts of the given rows.

    Raises:
        D90Error: a column does not exist, or a value is missing or not a string.
    """
    columns = [_strings(table, name, rows) for name in names]
    return tuple(zip(*columns, strict=True))


def _strings(table: Table, name: str, rows: Sequence[int]) -> list[str]:
    column = table.column(name)
    texts = [column[row] for row in rows]
    for row, text in zip(rows, texts, strict=True):
        if not isinstance(text, str):
            value = "no text" if text is None else f"{text!r}, not a string,"
            raise D90Error(f"{table.where}, row {row + 1}: {value} in column '{name}'.")
    return texts
