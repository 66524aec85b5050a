"""`pretraining.json`: what a run is, what it has measured, and whether a folder is that run's."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import torch

from d90.errors import D90Error
from d90.pretraining.checkpoints import SUMMARY, Evaluation, read
from d90.pretraining.dataset import Corpus
from d90.pretraining.plan import PretrainJob
from d90.pretraining.trainer import PretrainState
from d90.utils.files import atomic_write

VERSIONED = ("d90", "torch", "transformers", "tokenizers", "accelerate", "numpy")

PREPARATION = ("tokenizer", "tokens-", "corpus.json")
"""How the names begin of what a run leaves that was killed before its first update."""


@dataclass(frozen=True)
class Summary:
    """All that is known of a run.

    Attributes:
        settings: what decides the result; another value is another run.
        corpus: what was found in the texts.
        D: number of weights, tied ones once.
        command: as the user gave it.
        versions: what it was made with.
        started, finished: times in UTC; the second is None until the last update.
        step: updates done.
        seconds: of training and evaluating.
        history: the evaluations.
    """

    settings: Mapping[str, Any]
    corpus: Corpus
    D: int
    command: str
    versions: Mapping[str, str]
    started: str
    finished: str | None = None
    step: int = 0
    seconds: float = 0.0
    history: tuple[Evaluation, ...] = field(default=())

    @classmethod
    def new(cls, job: PretrainJob, corpus: Corpus, D: int, command: str) -> Summary:
        """Of a run without an update."""
        versions = {
            "python": platform.python_version(),
            **{name: version(name) for name in VERSIONED},
            "threads": str(torch.get_num_threads()),
            "precision": job.config.train_config.autocast,
        }
        return cls(job.to_dict(), corpus, D, command, versions, _now())

    @classmethod
    def load(cls, folder: Path) -> Summary | None:
        """That of a folder, or None where a run has not got so far.

        Raises:
            D90Error: it is damaged.
        """
        if not (folder / SUMMARY).exists():
            return None
        found = read(folder)
        history = tuple(map(Evaluation.from_json, found["history"]))
        return cls(**{**found, "corpus": Corpus(**found["corpus"]), "history": history})

    def after(self, state: PretrainState, *, is_over: bool) -> Summary:
        """What it is now."""
        return replace(
            self,
            finished=self.finished or (_now() if is_over else None),
            step=state.step,
            seconds=state.history[-1].seconds if state.history else 0.0,
            history=tuple(state.history),
        )

    def save(self, folder: Path) -> None:
        """Write it, whole or not at all."""
        plain = {**asdict(self), "history": [result.to_json() for result in self.history]}
        atomic_write(folder / SUMMARY, json.dumps(plain, indent=2) + "\n")


def check_folder(folder: Path, job: PretrainJob) -> None:
    """Make the folder, and see that it is empty or of this very run.

    Raises:
        D90Error: it cannot be written, holds something else, or a run with another setting.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise D90Error(
            f"output '{folder}' cannot be written ({error.strerror}): give a folder that can."
        ) from error
    if SUMMARY in names:
        _compare(folder, read(folder)["settings"], job.to_dict())
        return
    foreign = [name for name in names if not name.startswith((".", *PREPARATION))]
    if foreign:
        raise D90Error(
            f"output '{folder}' is no pre-training folder and has '{foreign[0]}' in it: give "
            "one that is new or empty."
        )


def _compare(folder: Path, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    for name in {**then, **now}:
        if then.get(name) != now.get(name):
            raise D90Error(
                f"'{folder}' holds another run ({name} was {_short(then.get(name))} and is now "
                f"{_short(now.get(name))}): give its settings again, or another folder."
            )


def _short(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
