"""How a study begins: what its first session decides, and every later one keeps.

An adaptive study depends on the number of workers, and on the results that other protocols have in
the store. Neither is a setting of the study: both are saved when it is first opened, so that a
resumed study takes the same path although other workers, or other results, are there by then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, replace

from d90.experiments.study import Study
from d90.search.protocols.base import pending
from d90.search.trial import Trial
from d90.storage.store import Store, StudyStore


def begin(
    study: Study, store: Store, opened: StudyStore, workers: int
) -> tuple[Study, list[Trial]]:
    """The study with its protocol as its first session began it.

    Args:
        study: whose protocol has not begun.
        store: of the study; for results of other protocols.
        opened: the study in it.
        workers: trials that can run at once now.

    Returns:
        The study, and the trials of other protocols that it has from the start.
    """
    beginning = opened.beginning(
        lambda: {"workers": workers, "given": [astuple(t) for t in _given(study, store, opened)]}
    )
    given = [Trial(*fields) for fields in beginning["given"]]
    protocol = study.protocol.begin(workers=beginning["workers"], given=given)
    return replace(study, protocol=protocol), given


def take_over(study: Study, opened: StudyStore, given: Sequence[Trial]) -> int:
    """Copy results that the study lacks from the other studies of its store; returns how many."""
    missing = pending(given, opened.results())
    key, accept = study.problem.key, study.has_score
    copied = [opened.reuse(trial, key(trial), accept=accept) for trial in missing]
    return sum(result is not None for result in copied)


def _given(study: Study, store: Store, opened: StudyStore) -> list[Trial]:
    """Trials of other protocols or criteria, with the model, task and training of the study.

    The baseline is not among them: it is requested first, and reused where the store has it.
    """
    if not study.protocol.takes_given or opened.results():
        return []
    settings, found = study.settings, set[Trial]()
    for other in store.studies():
        protocol = other.settings.get("protocol", {}).get("name")
        # Only of these may trials have the same keys: a trial's own key decides.
        shared = study.problem.shared_settings
        is_same = all(other.settings.get(name) == settings[name] for name in shared)
        criterion = other.settings.get("criterion", study.problem.metric)
        is_other = (protocol, criterion) != (settings["protocol"]["name"], settings["criterion"])
        if is_same and is_other:
            found |= {
                result.trial
                for key, result in store.keyed_results(other.name)
                if key == study.problem.key(result.trial) and study.has_score(result)
            }
    found.difference_update(study.protocol.baseline())
    return sorted(found, key=lambda trial: trial.sort_key)
