"""Which finished trial of a store has which key: read once, then only what is new."""

from __future__ import annotations

from collections.abc import Iterator

from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial

KEY, RECORD = "key", "record"
"""Trial attributes: the digest of all that decides a result, and the result."""


class KeyIndex:
    """The finished trials of all studies by their keys, those of other processes included.

    A trial that `failed` may succeed when it is run again, and is left out.

    Args:
        storage: of the studies; it caches the trials that it has read.
    """

    def __init__(self, storage: BaseStorage) -> None:
        self._storage = storage
        self._trials: dict[str, list[tuple[str, FrozenTrial]]] = {}
        self._seen: set[int] = set()

    def find(self, key: str) -> Iterator[tuple[str, FrozenTrial]]:
        """The name of a study and its trial of that key, for each of them, the first one first."""
        known = list(self._trials.get(key, ()))
        yield from known
        self._read_new_trials()
        yield from self._trials.get(key, [])[len(known) :]

    def _read_new_trials(self) -> None:
        for study in self._storage.get_all_studies():
            for trial in self._storage.get_all_trials(study._study_id, deepcopy=False):
                if trial._trial_id in self._seen or not trial.state.is_finished():
                    continue
                self._seen.add(trial._trial_id)
                record = trial.user_attrs.get(RECORD)
                if record is not None and record["status"] != "failed":
                    found = self._trials.setdefault(trial.user_attrs[KEY], [])
                    found.append((study.study_name, trial))
