"""Kinds of tasks: one file each, behind `d90.tasks.kinds.base.Kind`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from d90.errors import D90Error, unknown_name
from d90.tasks.kinds.base import BatchPredictions, Kind, Predictions
from d90.tasks.kinds.classification import Classification
from d90.tasks.kinds.generation import Generation
from d90.tasks.kinds.regression import Regression
from d90.tasks.tables import Tables

__all__ = [
    "KINDS",
    "BatchPredictions",
    "Classification",
    "Generation",
    "Kind",
    "Predictions",
    "Regression",
    "find_kind",
    "kind_of",
    "known_metrics",
]

KINDS: dict[str, type[Kind]] = {
    kind.name: kind for kind in (Classification, Regression, Generation)
}


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


def find_kind(
    tables: Tables,
    name: str | None = None,
    texts: Sequence[str] | None = None,
    label: str | None = None,
) -> tuple[type[Kind], tuple[str, ...], str]:
    """The kind of this name, or the one that the data are of; its text and label columns.

    Args:
        tables: the data.
        name: a key of `KINDS`; found by the columns and labels if None.
        texts, label: columns; found by name if None.

    Raises:
        D90Error: unknown kind or column; the data fit no kind, or more than one.
    """
    texts = [texts] if isinstance(texts, str) else texts
    kinds = KINDS.values() if name is None else [kind_named(name)]
    found: dict[type[Kind], tuple[tuple[str, ...], str]] = {}
    errors: list[D90Error] = []
    for kind in kinds:
        try:
            found[kind] = kind.columns(tables.train, texts, label)
        except D90Error as error:
            errors.append(error)
    fitting = [kind for kind, (_, at) in found.items() if name or kind.fits(tables, at)]
    if len(fitting) == 1:
        return fitting[0], *found[fitting[0]]
    if not fitting and errors:
        is_by_name = label is None and {*(texts or ())} <= tables.train.columns.keys()
        raise D90Error(f"{errors[0]} {needs_of_kinds()}") if is_by_name else errors[0]
    raise _ambiguous(tables, fitting, next(iter(found.values()))[1])


def _ambiguous(tables: Tables, fitting: Sequence[type[Kind]], column: str) -> D90Error:
    train = tables.train
    fits = " and ".join(kind.name for kind in fitting) or "no kind of task"
    values = ", ".join(str(value)[:20] for value in train.column(column)[:3])
    return D90Error(
        f"{train.where}, with the columns {', '.join(train.columns)}, fits {fits} (column "
        f"'{column}' is {values}, ...). {needs_of_kinds()} Set task_kind, or name another "
        "label_column."
    )


def needs_of_kinds() -> str:
    """What the data of each kind have, as a sentence for errors.

    >>> needs_of_kinds()[:67]
    'Classification needs a label that is an integer from 0 or a name; r'
    """
    needs = "; ".join(f"{kind.name} needs {kind.needs}" for kind in KINDS.values())
    return f"{needs[0].upper()}{needs[1:]}."


def known_metrics() -> list[str]:
    """Every metric of every kind, by name."""
    return [metric for kind in KINDS.values() for metric in kind.metrics]
