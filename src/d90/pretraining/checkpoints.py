"""The folder of a pre-training run, as others read it: no torch, only names of files and JSON."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from d90.errors import D90Error

SUMMARY = "pretraining.json"
CHECKPOINTS = "checkpoints"
STATE = "state.safetensors"

_STEP = re.compile(r"step-(\d{8,})")


@dataclass(frozen=True)
class Evaluation:
    """An evaluation after `step` optimizer steps.

    Attributes:
        step: optimizer steps done.
        tokens: read in training so far, masked or not.
        train_loss: mean over the masked tokens since the evaluation before, in nats; None at 0.
        validation_loss: mean over the masked tokens of the validation blocks, in nats.
        seconds: of training and evaluating so far.
    """

    step: int
    tokens: int
    train_loss: float | None
    validation_loss: float
    seconds: float

    @property
    def perplexity(self) -> float:
        """The exponential of the validation loss: of masked tokens, not of whole documents."""
        return math.exp(self.validation_loss)

    def to_json(self) -> dict[str, Any]:
        """By name, with the perplexity."""
        return {
            "step": self.step,
            "tokens": self.tokens,
            "train_loss": self.train_loss,
            "validation_loss": self.validation_loss,
            "validation_perplexity": self.perplexity,
            "seconds": self.seconds,
        }

    @classmethod
    def from_json(cls, result: dict[str, Any]) -> Evaluation:
        return cls(**{k: v for k, v in result.items() if k != "validation_perplexity"})


def checkpoint_name(step: int) -> str:
    """The name of a checkpoint's folder, in whose order the checkpoints are sorted.

    >>> checkpoint_name(500)
    'step-00000500'
    """
    return f"step-{step:08d}"


def read(folder: Path | str) -> dict[str, Any]:
    """The summary of a run, finished or not: settings, corpus, model, versions, history.

    Raises:
        D90Error: the folder is not that of a pre-training run.
    """
    file = Path(folder) / SUMMARY
    if not file.is_file():
        raise D90Error(
            f"'{folder}' is no pre-training folder (it has no {SUMMARY}): give one that "
            "`d90 pretrain` wrote."
        )
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        _ = found["history"], found["settings"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise D90Error(f"'{file}' is damaged ({error}): rerun the command of that run.") from (
            error
        )
    return found


def checkpoints(folder: Path | str) -> list[tuple[int, Path]]:
    """Step and folder of every checkpoint, in order; each folder is complete.

    Raises:
        D90Error: the folder is not that of a pre-training run, or has no checkpoint yet.
    """
    read(folder)
    home = Path(folder) / CHECKPOINTS
    names = {path: _STEP.fullmatch(path.name) for path in home.glob("step-*")}
    found = sorted((int(match[1]), path) for path, match in names.items() if match)
    if not found:
        raise D90Error(f"'{folder}' has no checkpoint yet: rerun the command of that run.")
    return found


def history(folder: Path | str) -> tuple[Evaluation, ...]:
    """Every evaluation of a run so far; there is one at each checkpoint.

    Raises:
        D90Error: the folder is not that of a pre-training run.
    """
    return tuple(map(Evaluation.from_json, read(folder)["history"]))
