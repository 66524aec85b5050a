"""Checkpoints of one pre-training run, as models to measure, in their order.

They are those in the output folder of `d90 pretrain`, or any series of models, such as the
revisions `MODEL@REVISION` that a hub id was released with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from d90.errors import D90Error
from d90.pretraining.checkpoints import checkpoints, history
from d90.report.paper.figure2 import Checkpoint
from d90.search.summary import Summary


def checkpoint_models(folder: str | Path, steps: Sequence[int] | None = None) -> dict[str, int]:
    """Model name of each checkpoint -> its optimizer step, ascending.

    Args:
        folder: output folder of `d90 pretrain`.
        steps: only the checkpoints at these optimizer steps; None for all.

    Raises:
        D90Error: it is not such a folder; a step has no checkpoint.
    """
    available = {step: str(path) for step, path in checkpoints(folder)}
    for step in steps or ():
        if step not in available:
            known = ", ".join(map(str, available))
            raise D90Error(f"'{folder}' has no checkpoint at step {step}. It has: {known}.")
    return {path: step for step, path in available.items() if steps is None or step in steps}


def join_checkpoints(
    folder: str | Path, steps: Mapping[str, int], summaries: Sequence[Summary]
) -> list[Checkpoint]:
    """The studies of checkpoints, with the step and the validation perplexity of each."""
    perplexity = {result.step: result.perplexity for result in history(folder)}
    return [
        Checkpoint(steps[summary.model], perplexity.get(steps[summary.model]), summary)
        for summary in summaries
    ]


def label_checkpoints(models: Sequence[str], summaries: Sequence[Summary]) -> list[Checkpoint]:
    """The studies of a series of models: placed by its order, labelled by its names.

    A label is the revision of `MODEL@REVISION`, and the last part of any other name.
    """
    position = {model: number for number, model in enumerate(models)}
    return [
        Checkpoint(position[summary.model], None, summary, label=_label(summary.model))
        for summary in summaries
    ]


def _label(model: str) -> str:
    return model.rstrip("/").rsplit("/", 1)[-1].rsplit("@", 1)[-1]
