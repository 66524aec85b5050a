"""`pretraining.json`: the settings and results of a run; and the check of its folder."""

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
from d90.pretraining.checkpoints import KEYS, SUMMARY, Evaluation, read
from d90.pretraining.dataset import Corpus
from d90.pretraining.plan import PretrainJob
from d90.pretraining.trainer import PretrainState
from d90.utils.files import atomic_write
from d90.utils.reading import check_fields, check_keys

VERSIONED = ("d90", "torch", "transformers", "tokenizers", "accelerate", "numpy")

PREPARATION = ("tokenizer", "tokens-", "corpus.json")
"""Prefixes of the files of a run that was killed before its first optimizer step."""


@dataclass(frozen=True)
class Summary:
    """The settings and results of a run.

    Attributes:
        settings: all that determines the result; a run cannot resume with other values.
        corpus: statistics and digests of the corpus.
        D: number of parameters, tied ones once.
        command: as the user gave it.
        versions: of the software.
        started, finished: times in UTC; `finished` is None until the last optimizer step.
        step: completed optimizer steps.
        seconds: of training and evaluation.
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
        """The summary of a run before its first optimizer step."""
        versions = {
            "python": platform.python_version(),
            **{name: version(name) for name in VERSIONED},
            "threads": str(torch.get_num_threads()),
            "precision": job.config.train_config.autocast,
        }
        return cls(job.to_dict(), corpus, D, command, versions, _now())

    @classmethod
    def load(cls, folder: Path) -> Summary | None:
        """The summary in a folder, or None if there is none yet.

        Raises:
            D90Error: the file is damaged.
        """
        if not (folder / SUMMARY).exists():
            return None
        values = check_keys(read(folder), {}, [*KEYS], f"'{folder / SUMMARY}'")
        history = tuple(map(Evaluation.from_json, values["history"]))
        corpus = Corpus(**check_fields(Corpus, values["corpus"], f"'{folder / SUMMARY}': corpus"))
        known = {name: values[name] for name in KEYS}
        return cls(**{**known, "corpus": corpus, "history": history})

    def after(self, state: PretrainState, *, is_over: bool) -> Summary:
        """The summary with the results so far."""
        return replace(
            self,
            finished=self.finished or (_now() if is_over else None),
            step=state.step,
            seconds=state.history[-1].seconds if state.history else 0.0,
            history=tuple(state.history),
        )

    def save(self, folder: Path) -> None:
        """Write the summary atomically."""
        values = {**asdict(self), "history": [result.to_json() for result in self.history]}
        atomic_write(folder / SUMMARY, json.dumps(values, indent=2) + "\n")


def check_folder(folder: Path, job: PretrainJob) -> None:
    """Create the folder, and check that it is empty or contains this run.

    Raises:
        D90Error: it is not writable, or contains other files or a run with other settings.
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


def _compare(folder: Path, saved: Mapping[str, Any], current: Mapping[str, Any]) -> None:
    for name in {**saved, **current}:
        if saved.get(name) != current.get(name):
            raise D90Error(
                f"'{folder}' holds another run ({name} was {_short(saved.get(name))} and is now "
                f"{_short(current.get(name))}): give its settings again, or another folder."
            )


def _short(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
