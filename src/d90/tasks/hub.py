"""Tasks of the literature, from the Hugging Face hub: downloaded once, then cached.

They are data files on the hub (Parquet): no script of a data set is ever run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from d90.errors import D90Error
from d90.tasks.tables import Table, Tables
from d90.utils.hub import first_line, is_reachable


@dataclass(frozen=True)
class HubTask:
    """Where the splits of a task are on the hub; several of the hub's splits are joined into one.

    Attributes:
        path: the data set.
        config: its configuration.
        train: the hub's splits that make the training split.
        evaluation: for each evaluation split, the hub's splits that make it.
    """

    path: str
    config: str
    train: Sequence[str] = ("train",)
    evaluation: Mapping[str, Sequence[str]] = field(
        default_factory=lambda: {"validation": ("validation",)}
    )

    def read(self) -> Tables:
        """The splits.

        Raises:
            D90Error: the data set is neither cached nor to be had from the hub.
        """
        data = self._load()
        features = data[self.train[0]].features
        return Tables(
            train=self._table(data, self.train),
            evaluation={name: self._table(data, parts) for name, parts in self.evaluation.items()},
            classes={
                column: tuple(feature.names)
                for column, feature in features.items()
                if hasattr(feature, "names")  # a ClassLabel
            },
        )

    def _load(self) -> Any:
        import datasets  # takes a second: only for those who need it
        from datasets import config, exceptions

        try:
            with _offline_if_unreachable(config):
                return datasets.load_dataset(self.path, self.config)
        except (OSError, ValueError, exceptions.DatasetsError) as error:  # Value: cached in part
            raise D90Error(
                f"cannot get {self.path} ({self.config}) from {config.HF_ENDPOINT}, and "
                "it is not in the cache: run once with a connection, after which it is cached, or "
                f"give a folder with train and validation files instead ({first_line(error)})."
            ) from error

    def _table(self, data: Any, parts: Sequence[str]) -> Table:
        import datasets

        joined = datasets.concatenate_datasets([data[part] for part in parts])
        where = f"{self.path} ({self.config}) {'+'.join(parts)}"
        return Table(where=where, columns=joined.to_dict())


@contextmanager
def _offline_if_unreachable(config: Any) -> Iterator[None]:
    """Let `datasets` go straight to its cache where the hub does not answer.

    Left alone it retries for half a minute first.
    """
    offline = config.HF_HUB_OFFLINE
    config.HF_HUB_OFFLINE = offline or not is_reachable(config.HF_ENDPOINT)
    try:
        yield
    finally:
        config.HF_HUB_OFFLINE = offline
