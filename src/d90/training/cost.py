"""One training run from start to end, or from its checkpoint to its end."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

from torch import nn

from d90.search.trial import Status
from d90.training.config import TrainConfig
from d90.training.data import TokenizedTask, evaluation_batches
from d90.training.evaluation import predict
from d90.training.state import Outcome
from d90.training.trainer import Trainer

CHECKPOINT = "checkpoint.safetensors"


@dataclass(frozen=True)
class Progress:
    """Where a run is: `step` of `steps` updates done, the last loss, the last epoch's metric."""

    step: int
    steps: int
    loss: float
    metric: float | None


def train(
    model: nn.Module,
    data: TokenizedTask,
    settings: TrainConfig,
    *,
    on_progress: Callable[[Progress], None] | None = None,
    checkpoint_dir: Path | None = None,
    checkpoint_every: int | None = None,
    keep_best: bool = False,
) -> Outcome:
    """Train every parameter that requires a gradient, in place, and say what came of it.

    Several processes, each with the same model and data, make one run of it: they share the rows
    of every batch, and end with the same bits.

    Args:
        model: a classification model of transformers, or one that a subspace is attached to. It
            ends with its last weights, or those of its best epoch, in evaluation mode.
        data: the tokenized task.
        settings: how.
        on_progress: called after every update and every evaluation, in the first process.
        checkpoint_dir: where the run's state is kept at the end of each epoch, and where it
            continues from if there is one; of several processes the first one writes and reads.
        checkpoint_every: keep it every so many updates too.
        keep_best: end with what was trained as it was at the best epoch, which takes a copy of it.

    Raises:
        D90Error: the checkpoint is damaged or of another run; processes that do not have the same.
    """
    run = Trainer(model, data, settings, keep_best=keep_best)
    if checkpoint_dir is not None:
        run.resume(checkpoint_dir / CHECKPOINT)
    status: Status = "ok"
    message = ""
    try:
        while not run.is_over:
            loss = run.optimizer_step()
            if run.ends_epoch:
                run.evaluate()
            if on_progress is not None and run.process_group.is_main_process:
                on_progress(Progress(run.state.step, run.steps, loss, run.state.last_metric))
            due = checkpoint_every is not None and run.state.step % checkpoint_every == 0
            if checkpoint_dir is not None and (run.ends_epoch or due):
                run.save(checkpoint_dir / CHECKPOINT)
    except FloatingPointError as error:
        status, message = "diverged", f"after {run.state.step} updates: {error}"
    finally:
        run.close()
    run.restore_best()
    return run.outcome(status, message)


def estimate_seconds(
    model: nn.Module, data: TokenizedTask, settings: TrainConfig, *, updates: int = 3
) -> float:
    """Seconds that a run would take, from a few timed updates and one timed evaluation batch.

    The model is trained by these updates: give it one that is not needed any more.
    """
    run = Trainer(model, data, replace(settings, max_steps=updates + 1))
    run.optimizer_step()  # The first one also allocates.
    start = perf_counter()
    for _ in range(updates):
        run.optimizer_step()
    update = (perf_counter() - start) / updates
    primary = data.evaluation[data.primary]
    batches = evaluation_batches(primary.lengths, run.evaluation_batch_size)
    middle = batches[len(batches) // 2]
    start = perf_counter()
    predict(model, data, primary, [middle], run.accelerator, run.process_group)
    row = (perf_counter() - start) / len(middle)
    run.close()
    steps = settings.max_steps or settings.epochs * run.steps_an_epoch
    rows = sum(map(len, (data.train_eval_subset, *data.evaluation.values())))
    return steps * update + math.ceil(steps / run.steps_an_epoch) * rows * row
