"""Reading the folder of a pretraining run. Imports no torch."""

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
    def from_json(cls, result: dict[str, Any]) -> Evaluation:
        return cls(**{k: v for k, v in result.items() if k != "validation_perplexity"})


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
    file = Path(folder) / SUMMARY
    if not file.is_file():
        raise D90Error(
            f"'{folder}' is no pre-training folder (it has no {SUMMARY}): give one that "
            "`d90 pretrain` wrote."
        )
    try:
        summary = json.loads(file.read_text(encoding="utf-8"))
        _ = [Evaluation.from_json(values) for values in summary["history"]], summary["settings"]
    except (OSError, ValueError, KeyError, TypeError) as error:
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
