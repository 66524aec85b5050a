"""Standard tasks from the Hugging Face hub: downloaded once, then cached.

Only data files (Parquet) are read; no data set script is executed.
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
    """The splits of a task on the hub; several splits of the hub can be concatenated into one.

    Attributes:
        path: the data set.
        config: its configuration.
        train: the hub's splits that form the training split.
        evaluation: for each evaluation split, the hub's splits that form it.
        columns: other names of some columns, by their names on the hub.
        options: as in `Tables`.
    """

    path: str
    config: str
    train: Sequence[str] = ("train",)
    evaluation: Mapping[str, Sequence[str]] = field(
        default_factory=lambda: {"validation": ("validation",)}
    )
    columns: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)

    def read(self) -> Tables:
        """The splits.

        Raises:
            D90Error: the data set is not cached and cannot be downloaded.
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
            options=self.options,
        )

    def _load(self) -> Any:
        import datasets  # Importing it takes a second.
        from datasets import config

        try:
            with _offline_if_unreachable(config):
                return datasets.load_dataset(self.path, self.config)
        except Exception as error:  # `datasets` and its readers raise many kinds
            raise D90Error(
                f"cannot download {self.path} ({self.config}) from {config.HF_ENDPOINT}, and "
                "it is not in the cache: connect once to download it, or give a folder with "
                f"train and validation files ({first_line(error)})."
            ) from error

    def _table(self, data: Any, parts: Sequence[str]) -> Table:
        import datasets

        joined = datasets.concatenate_datasets([data[part] for part in parts])
        where = f"{self.path} ({self.config}) {'+'.join(parts)}"
        columns = {self.columns.get(name, name): of for name, of in joined.to_dict().items()}
        return Table(where=where, columns=columns)


@contextmanager
def _offline_if_unreachable(config: Any) -> Iterator[None]:
    """Make `datasets` use its cache at once if the hub cannot be reached.

    It would otherwise retry for half a minute.
    """
    offline = config.HF_HUB_OFFLINE
    config.HF_HUB_OFFLINE = offline or not is_reachable(config.HF_ENDPOINT)
    try:
        yield
    finally:
        config.HF_HUB_OFFLINE = offline
