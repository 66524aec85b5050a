"""A task: labeled texts in a training split and one or more evaluation splits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from d90.utils.digest import json_sequence_digest

CLASSIFICATION = "classification"
"""The kind of a task that names none."""


@dataclass(frozen=True)
class Split:
    """The examples of one split.

    Attributes:
        texts: one tuple per example, with one text for each text column of the task.
        labels: of each example: its class index in 0..k-1, or what the task's kind has in its
            place.
    """

    texts: Sequence[tuple[str, ...]]
    labels: Sequence[Any]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def majority(self) -> float:
        """The fraction of examples that belong to the most frequent class.

        >>> Split(texts=[("a",), ("b",), ("c",), ("d",)], labels=[0, 1, 1, 1]).majority
        0.75
        """
        return max(Counter(self.labels).values()) / len(self)


@dataclass(frozen=True)
class Task:
    """A task.

    Attributes:
        name: as the user gave it.
        text_columns: columns of the texts; two for a task on pairs.
        labels: the names of the k classes, by class index; empty if there are none.
        metric: the metric of d90, one of its kind's.
        train: the training split.
        evaluation: the evaluation splits; the first is the primary one.
        kind: a key of `d90.tasks.KINDS`.
        options: what the kind keeps besides the labels (`Kind.options`).
    """

    name: str
    text_columns: tuple[str, ...]
    labels: tuple[str, ...]
    metric: str
    train: Split
    evaluation: Mapping[str, Split]
    kind: str = CLASSIFICATION
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def primary(self) -> str:
        """The name of the evaluation split that d90 is measured on."""
        return next(iter(self.evaluation))

    def digest(self) -> str:
        """SHA-256 of everything but the name: any difference in the data changes it."""
        splits = {"": self.train, **self.evaluation}.items()
        rows = ([[name, len(s)], *zip(s.texts, s.labels, strict=True)] for name, s in splits)
        # Classification is not named: its digests are in stores.
        kind = [] if self.kind == CLASSIFICATION else [self.kind, self.options]
        return json_sequence_digest(chain([[self.labels, self.metric, *kind]], *rows))
