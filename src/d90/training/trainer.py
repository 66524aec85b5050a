"""A training run that is under way: its updates, its evaluations, its checkpoints.

In several processes each takes part in all of it; the first one writes
(`d90.distributed.process_group`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from time import perf_counter
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_

from d90.distributed.process_group import (
    GradientSync,
    ProcessGroup,
    get_process_group,
)
from d90.errors import D90Error
from d90.rng import philox
from d90.search.trial import Status
from d90.training.checkpoint import load_checkpoint, save_checkpoint
from d90.training.config import OPTIMIZERS, TrainConfig, learning_rate_factor
from d90.training.data import TokenizedTask, collate, training_batches
from d90.training.evaluation import evaluate
from d90.training.state import WINDOW, EpochResult, Outcome, TrainState
from d90.utils.digest import json_digest, named_tensors_digest

EVALUATION_FACTOR = 4
"""Evaluation batches are so many times as large: they keep no activations."""

EXPLOSION = 5.0
"""A run has diverged when its mean loss over the last `WINDOW` updates is above this many times
that of its first update or of a constant prediction, whichever is larger."""

_DROPOUT_BLOCK = 2**40 + 1  # Blocks of the data stream from here on: no epoch reaches them.


class Trainer:
    """A run that is under way.

    Args:
        model: it is trained in place.
        data: the tokenized task.
        settings: how.
        keep_best: keep a copy of what is trained as it was at the best epoch.
    """

    def __init__(
        self,
        model: nn.Module,
        data: TokenizedTask,
        settings: TrainConfig,
        *,
        keep_best: bool = False,
    ) -> None:
        self.data, self.settings, self.keep_best = data, settings, keep_best
        self.parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.process_group = get_process_group()
        self.accelerator = _accelerator(settings, self.num_trainable, self.process_group)
        self.model = model.to(self.accelerator.device)
        if self.process_group.world_size > 1:
            self.process_group.assert_same_on_all_ranks("run", self._digests())
        if settings.gradient_checkpointing:
            _checkpoint_gradients(self.model)
        self._gradients = GradientSync(self.parameters.values(), self.process_group)
        self.optimizer = OPTIMIZERS[settings.optimizer](
            self.parameters.values(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        batches = math.ceil(len(data.train) / settings.batch_size)
        self.steps_an_epoch = math.ceil(batches / settings.gradient_accumulation_steps)
        self.steps = settings.max_steps or settings.epochs * self.steps_an_epoch
        self.evaluation_batch_size = EVALUATION_FACTOR * settings.batch_size
        self.state = TrainState()
        self.started = perf_counter()
        self._epoch_batches: tuple[int, list[list[int]]] = (-1, [])
        self._best: dict[str, torch.Tensor] = {}

    @property
    def num_trainable(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters.values())

    @property
    def ends_epoch(self) -> bool:
        return self.state.step % self.steps_an_epoch == 0 or self.state.step == self.steps

    @property
    def is_over(self) -> bool:
        return self.state.step == self.steps or self._is_stale

    @property
    def _tracks(self) -> bool:
        return self.settings.log_with is not None and self.process_group.is_main_process

    @property
    def _is_stale(self) -> bool:
        best, patience = self.state.best_epoch, self.settings.patience
        if best is None or patience is None:
            return False
        return len(self.state.epochs) - 1 - best >= patience

    @property
    def seconds(self) -> float:
        return self.state.seconds + perf_counter() - self.started

    def optimizer_step(self) -> float:
        """One optimizer update; its loss, the mean over its texts in nats."""
        step = self.state.step
        # Dropout is seeded step by step, so that no generator's state has to outlive an update.
        set_seed(_dropout_seed(self.settings.seed, step, self.process_group.rank))
        factor = learning_rate_factor(step, self.steps, self.settings.warmup_ratio)
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * factor
        loss, norm = self._gradient(self._batches_of(step))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise FloatingPointError(f"loss {loss}, gradient norm {norm}")
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._remember(loss)
        return loss

    def _batches_of(self, step: int) -> list[list[int]]:
        epoch, position = divmod(step, self.steps_an_epoch)
        if self._epoch_batches[0] != epoch:
            settings = self.settings
            batches = training_batches(
                self.data.train.lengths, settings.batch_size, seed=settings.seed, epoch=epoch
            )
            self._epoch_batches = epoch, batches
        start = position * self.settings.gradient_accumulation_steps
        return self._epoch_batches[1][start : start + self.settings.gradient_accumulation_steps]

    def _gradient(self, batches: Sequence[Sequence[int]]) -> tuple[float, float]:
        """The mean loss over the texts of these batches; the norm of its gradient, then clipped.

        A process that has no row of a batch leaves it out, and takes part in the sum all the same.
        """
        self.model.train()
        count = sum(map(len, batches))
        loss = torch.zeros((), device=self.accelerator.device)
        for rows in filter(None, map(self.process_group.shard, batches)):
            inputs, labels = collate(self.data, self.data.train, rows, self.accelerator.device)
            with self.accelerator.autocast():
                logits = self.model(**inputs).logits
            part = cross_entropy(logits.float(), labels, reduction="sum") / count
            self.accelerator.backward(part)
            loss += part.detach()
        loss = self._gradients.all_reduce(loss)
        largest = math.inf if self.settings.max_grad_norm is None else self.settings.max_grad_norm
        norm = clip_grad_norm_(self.parameters.values(), largest)
        return float(loss), float(norm)

    def _remember(self, loss: float) -> None:
        state = self.state
        if state.step == 0:
            state.first_loss = loss
        state.step += 1
        state.epoch_losses.append(loss)
        state.recent.append(loss)
        if self._tracks:
            rate = self.optimizer.param_groups[0]["lr"]
            self.accelerator.log({"loss": loss, "learning_rate": rate}, step=state.step)
        usual = max(state.first_loss, math.log(len(self.data.classes)))
        if len(state.recent) == WINDOW and fmean(state.recent) > EXPLOSION * usual:
            raise FloatingPointError(f"mean loss {fmean(state.recent):.3g} over {WINDOW} updates")

    def evaluate(self) -> None:
        """Close the epoch with an evaluation."""
        state, data = self.state, self.data
        scores = evaluate(
            self.model, data, self.evaluation_batch_size, self.accelerator, self.process_group
        )
        epoch = EpochResult(
            epoch=len(state.epochs) + 1,
            step=state.step,
            loss=fmean(state.epoch_losses),
            metric=scores.metrics[f"{data.primary}/{data.metric}"],
            train_metric=scores.metrics[f"train/{data.metric}"],
            metrics=scores.metrics,
            classes=scores.classes,
        )
        state.epochs.append(epoch)
        state.epoch_losses.clear()
        if self.keep_best and state.best_epoch == len(state.epochs) - 1:
            self._best = {name: p.detach().clone() for name, p in self.parameters.items()}
        if self._tracks:
            self.accelerator.log(scores.metrics, step=state.step)

    def restore_best(self) -> None:
        """Give what is trained the values that it had at the best epoch, if they were kept."""
        for name, tensor in self._best.items():
            self.parameters[name].data.copy_(tensor)

    def _identity(self) -> dict[str, Any]:
        return {
            **self.settings.to_dict(),
            "trained numbers": self.num_trainable,
            "training rows": len(self.data.train),
            "best kept": self.keep_best,
        }

    def _digests(self) -> dict[str, str]:
        """What has to be the same in every process, by what it is."""
        labels = [split.labels.tolist() for split in (self.data.train, self.data.train_eval_subset)]
        return {
            "settings": repr(self._identity()),
            "data": json_digest([self.data.digest(), labels]),
            "weights": named_tensors_digest(
                [*self.model.named_parameters(), *self.model.named_buffers()]
            ),
        }

    def save(self, file: Path) -> None:
        """Write all that the run needs to go on from here, in the first process."""
        if not self.process_group.is_main_process:
            return
        tensors = {f"parameter.{name}": p for name, p in self.parameters.items()}
        for index, kept in self.optimizer.state_dict()["state"].items():
            for name, value in kept.items():
                if value is not None:
                    tensors[f"optimizer.{index}.{name}"] = value
        tensors |= {f"best.{name}": tensor for name, tensor in self._best.items()}
        state = {**self.state.to_json(), "seconds": self.seconds}
        save_checkpoint(file, tensors, {"identity": self._identity(), "run": state})

    def resume(self, file: Path) -> None:
        """Go on from a checkpoint, if there is one where the first process runs."""
        read: dict[str, torch.Tensor] = {}

        def load() -> dict[str, Any] | None:
            found = load_checkpoint(file, identity=self._identity())
            if found is None:
                return None
            read.update(found[0])
            return found[1]

        state = self.process_group.broadcast_object(load)
        if state is None:
            return
        tensors = self.process_group.broadcast_tensors(read)
        kept: dict[int, dict[str, torch.Tensor]] = {}
        for key, tensor in tensors.items():
            kind, _, name = key.partition(".")
            if kind == "parameter":
                self.parameters[name].data.copy_(tensor)
            elif kind == "best":
                self._best[name] = tensor.to(self.parameters[name].device)
            else:
                index, _, name = name.partition(".")
                kept.setdefault(int(index), {})[name] = tensor
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": kept, "param_groups": groups})
        self.state = TrainState.from_json(state["run"])

    def outcome(self, status: Status, message: str) -> Outcome:
        """What came of the run, given how its loop ended."""
        history = tuple(epoch.summary() for epoch in self.state.epochs)
        if self.state.best_epoch is None:
            return Outcome(status, None, None, {}, history, self.seconds, message)
        best = self.state.epochs[self.state.best_epoch]
        if status == "ok" and best.classes == 1:
            status, message = "collapsed", "its best evaluation predicts one class only"
        found = best.metric, best.train_metric, best.metrics
        return Outcome(status, *found, history, self.seconds, message)

    def close(self) -> None:
        self.model.eval()
        if self.settings.gradient_checkpointing:
            _checkpointing(self.model, "disable")()
        if self._tracks:
            self.accelerator.end_training()


def _accelerator(
    settings: TrainConfig, trained_numbers: int, process_group: ProcessGroup
) -> Accelerator:
    rate, seed = settings.learning_rate, settings.seed
    accelerator = Accelerator(
        mixed_precision=settings.autocast,
        log_with=settings.log_with,
        project_dir=f"runs/{trained_numbers}-numbers-rate-{rate:g}-seed-{seed}",
    )
    if settings.log_with is not None and process_group.is_main_process:
        if not accelerator.log_with:
            raise D90Error(f"log_with '{settings.log_with}': its package is not installed.")
        known = {name: value for name, value in settings.to_dict().items() if value is not None}
        accelerator.init_trackers("d90", config=known)
    return accelerator


def _checkpoint_gradients(model: nn.Module) -> None:
    """Have a model of transformers compute the activations of its layers again.

    Raises:
        D90Error: for a model that cannot.
    """
    if not getattr(model, "supports_gradient_checkpointing", False):
        raise D90Error(
            f"{type(model).__name__} has no gradient checkpointing: leave gradient_checkpointing "
            "out and lower the batch size."
        )
    _checkpointing(model, "enable")({"use_reentrant": False})


def _checkpointing(model: nn.Module, what: str) -> Callable[..., None]:
    """The model's method, whose first name transformers is giving up."""
    new = getattr(model, f"activation_checkpointing_{what}", None)
    return new or getattr(model, f"gradient_checkpointing_{what}")


def _dropout_seed(seed: int, step: int, rank: int) -> int:
    """Another one for each process: one mask must not serve several rows of a batch."""
    block = _DROPOUT_BLOCK + rank
    return int(philox.words(seed, philox.Stream.DATA, step, step + 1, block=block))
