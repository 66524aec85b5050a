"""What a task is: texts with class numbers, in a training split and evaluation splits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from d90.utils.digest import json_sequence_digest


@dataclass(frozen=True)
class Split:
    """The rows of one split.

    Attributes:
        texts: one tuple a row, with one text for each of the task's text columns.
        labels: the class of each row, in 0..k-1.
    """

    texts: Sequence[tuple[str, ...]]
    labels: Sequence[int]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def majority(self) -> float:
        """The share of the rows that are of the most frequent class (a fraction).

        >>> Split(texts=[("a",), ("b",), ("c",), ("d",)], labels=[0, 1, 1, 1]).majority
        0.75
        """
        return max(Counter(self.labels).values()) / len(self)


@dataclass(frozen=True)
class Task:
    """A classification task.

    Attributes:
        name: as the user gave it.
        text_columns: where the texts came from; two for a task on pairs.
        labels: the names of the k classes, by class number.
        metric: what d90 is measured on; a name in `d90.tasks.metrics.METRICS`.
        train: the rows to train on.
        evaluation: the splits to evaluate on; the first is the primary one.
    """

    name: str
    text_columns: tuple[str, ...]
    labels: tuple[str, ...]
    metric: str
    train: Split
    evaluation: Mapping[str, Split]

    @property
    def primary(self) -> str:
        """The name of the evaluation split that d90 is measured on."""
        return next(iter(self.evaluation))

    def digest(self) -> str:
        """SHA-256 of everything but the name: tasks that differ in one letter differ here."""
        splits = {"": self.train, **self.evaluation}.items()
        rows = ([[name, len(s)], *zip(s.texts, s.labels, strict=True)] for name, s in splits)
        return json_sequence_digest(chain([[self.labels, self.metric]], *rows))
