"""Reading the folder of a pretraining run. Imports no torch."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from d90.errors import D90Error
from d90.utils.files import as_path
from d90.utils.reading import check_fields, check_keys, parse_json, read_text

SUMMARY = "pretraining.json"
CHECKPOINTS = "checkpoints"
STATE = "state.safetensors"

MAX_LOSS = 700
"""Nats whose exponential a float can hold."""

KEYS: dict[str, Any] = {
    "settings": Mapping[str, Any],
    "corpus": Mapping[str, Any],
    "D": int,
    "command": str,
    "versions": Mapping[str, str],
    "started": str,
    "finished": str | None,
    "step": int,
    "seconds": float,
    "history": tuple[Mapping[str, Any], ...],
}
"""Keys of the summary and their types."""

_STEP = re.compile(r"step-(\d{8,})")


@dataclass(frozen=True)
class Evaluation:
    """An evaluation during pretraining.

    Attributes:
        step: completed optimizer steps.
        tokens: training tokens so far, masked or not.
        train_loss: mean over the masked tokens since the last evaluation, in nats; None at step 0.
        validation_loss: mean over the masked tokens of the validation blocks, in nats.
        seconds: of training and evaluation so far.
    """

    step: int
    tokens: int
    train_loss: float | None
    validation_loss: float
    seconds: float

    @property
    def perplexity(self) -> float:
        """The exponential of the validation loss: per masked token, not per document."""
        return math.exp(self.validation_loss)

    def to_json(self) -> dict[str, Any]:
        """The fields by name, and the perplexity."""
        return {
            "step": self.step,
            "tokens": self.tokens,
            "train_loss": self.train_loss,
            "validation_loss": self.validation_loss,
            "validation_perplexity": self.perplexity,
            "seconds": self.seconds,
        }

    @classmethod
    def from_json(cls, result: Any) -> Evaluation:
        """The evaluation that `to_json` wrote.

        Raises:
            D90Error: a field is missing or of another type, or the loss is no loss.
        """
        values = check_keys(result, {}, [], "history")
        values = {k: v for k, v in values.items() if k != "validation_perplexity"}
        found = cls(**check_fields(cls, values, "history"))
        if not 0 <= found.validation_loss < MAX_LOSS or found.step < 0:
            raise D90Error(f"history: validation_loss is {found.validation_loss} at {found.step}.")
        return found


def checkpoint_name(step: int) -> str:
    """The name of a checkpoint's folder; names sort by step.

    >>> checkpoint_name(500)
    'step-00000500'
    """
    return f"step-{step:08d}"


def read(folder: Path | str) -> dict[str, Any]:
    """The summary of a run, finished or not: settings, corpus, model, versions, history.

    Raises:
        D90Error: it is not the folder of a pretraining run.
    """
    file = as_path(folder, "run") / SUMMARY
    if not file.is_file():
        raise D90Error(
            f"'{folder}' is no pre-training folder (it has no {SUMMARY}): give one that "
            "`d90 pretrain` wrote."
        )
    try:
        summary = parse_json(read_text(file, "run"), SUMMARY)
        check_keys(summary, KEYS, ["history", "settings"], SUMMARY)
        for evaluation in summary["history"]:
            Evaluation.from_json(evaluation)
    except D90Error as error:
        raise D90Error(
            f"'{file}' is damaged, or of another version of d90 ({error}): rerun its command in a "
            "new folder."
        ) from error
    return summary


def checkpoints(folder: Path | str) -> list[tuple[int, Path]]:
    """The step and folder of every checkpoint, in order; each folder is complete.

    Raises:
        D90Error: it is not the folder of a pretraining run, or has no checkpoint yet.
    """
    read(folder)
    parent = Path(folder) / CHECKPOINTS
    names = {path: _STEP.fullmatch(path.name) for path in parent.glob("step-*")}
    steps = sorted((int(match[1]), path) for path, match in names.items() if match)
    if not steps:
        raise D90Error(f"'{folder}' has no checkpoint yet: rerun the command of that run.")
    return steps


def history(folder: Path | str) -> tuple[Evaluation, ...]:
    """The evaluations of a run so far, at least one at each checkpoint.

    Raises:
        D90Error: it is not the folder of a pretraining run.
    """
    return tuple(map(Evaluation.from_json, read(folder)["history"]))
