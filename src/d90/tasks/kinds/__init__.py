"""Kinds of tasks: one file each, behind `d90.tasks.kinds.base.Kind`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from d90.errors import D90Error, unknown_name
from d90.tasks.kinds.base import BatchPredictions, Kind, Predictions
from d90.tasks.kinds.classification import Classification
from d90.tasks.kinds.regression import Regression
from d90.tasks.tables import Tables

__all__ = [
    "KINDS",
    "BatchPredictions",
    "Classification",
    "Kind",
    "Predictions",
    "Regression",
    "find_kind",
    "kind_of",
    "known_metrics",
    "needs_of_kinds",
]

KINDS: dict[str, type[Kind]] = {kind.name: kind for kind in (Classification, Regression)}


class OfKind(Protocol):
    """A task, or what an adapter keeps of it."""

    @property
    def kind(self) -> str: ...

    @property
    def labels(self) -> tuple[str, ...]: ...

    @property
    def options(self) -> Mapping[str, str]: ...


def kind_of(task: OfKind) -> Kind:
    """The kind of a task, or of an adapter's.

    Raises:
        D90Error: unknown kind; the task's labels or options are not those of its kind.
    """
    return kind_named(task.kind).of(task.labels, task.options)


def kind_named(name: str) -> type[Kind]:
    """The kind of this name.

    Raises:
        D90Error: there is none.
    """
    if name not in KINDS:
        raise unknown_name("task_kind", name, KINDS)
    return KINDS[name]


def find_kind(tables: Tables, column: str, name: str | None = None) -> type[Kind]:
    """The kind of this name; without a name, the one that the labels are of.

    Raises:
        D90Error: unknown kind; the labels fit no kind, or more than one.
    """
    if name is not None:
        return kind_named(name)
    fitting = [kind for kind in KINDS.values() if kind.fits(tables, column)]
    if len(fitting) == 1:
        return fitting[0]
    train = tables.train
    fits = " and ".join(kind.name for kind in fitting) or "no kind of task"
    values = ", ".join(str(value)[:20] for value in train.column(column)[:3])
    raise D90Error(
        f"{train.where}, with the columns {', '.join(train.columns)}, fits {fits} (column "
        f"'{column}' is {values}, ...). {needs_of_kinds()} Set task_kind, or name another "
        "label_column."
    )


def needs_of_kinds() -> str:
    """What the labels of each kind are, as a sentence for errors.

    >>> needs_of_kinds()[:67]
    'Classification needs a label that is an integer from 0 or a name; r'
    """
    needs = "; ".join(f"{kind.name} needs {kind.needs}" for kind in KINDS.values())
    return f"{needs[0].upper()}{needs[1:]}."


def known_metrics() -> list[str]:
    """Every metric of every kind, by name."""
    return [metric for kind in KINDS.values() for metric in kind.metrics]
