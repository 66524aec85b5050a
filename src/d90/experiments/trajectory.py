"""The checkpoints of a pre-training, as models to measure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from d90.errors import D90Error
from d90.pretraining.checkpoints import checkpoints, history
from d90.report.paper.figure2 import Checkpoint
from d90.search.summary import Summary


def checkpoint_models(folder: str | Path, steps: Sequence[int] | None = None) -> dict[str, int]:
    """Model names of the checkpoints, and after how many updates each was kept, ascending.

    Args:
        folder: that `d90 pretrain` wrote.
        steps: only the checkpoints after these many updates; None for all.

    Raises:
        D90Error: when it is no such folder; for a number of updates without a checkpoint.
    """
    found = {step: str(path) for step, path in checkpoints(folder)}
    for step in steps or ():
        if step not in found:
            kept = ", ".join(map(str, found))
            raise D90Error(f"'{folder}' has no checkpoint after {step} updates. It has: {kept}.")
    return {path: step for step, path in found.items() if steps is None or step in steps}


def join_checkpoints(
    folder: str | Path, steps: Mapping[str, int], summaries: Sequence[Summary]
) -> list[Checkpoint]:
    """The studies of checkpoints, with the steps and the validation perplexity of each."""
    perplexity = {result.step: result.perplexity for result in history(folder)}
    return [
        Checkpoint(steps[summary.model], perplexity.get(steps[summary.model]), summary)
        for summary in summaries
    ]
