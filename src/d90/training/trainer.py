"""Fine-tuning a model, in full or in a subspace.

Every process of a launcher takes part in a run; the main one writes
(`d90.distributed.process_group`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

from d90.distributed.process_group import get_process_group
from d90.errors import D90Error
from d90.search.trial import Status, Trial, TrialResult
from d90.subspace import lam_names
from d90.training.config import OPTIMIZERS, TrainConfig, subspace_learning_rate
from d90.training.data import TokenizedTask, training_batches
from d90.training.evaluation import evaluate, predict_split
from d90.training.loop import TrainingLoop
from d90.training.state import WINDOW, EpochResult, TrainState
from d90.utils.digest import json_digest, named_tensors_digest

CHECKPOINT = "checkpoint.safetensors"

EXPLOSION = 5.0
"""A run has diverged when its mean loss over the last `WINDOW` steps is above this many times that
of its first step or of a constant prediction, whichever is larger."""


@dataclass(frozen=True)
class Progress:
    """Progress of a run: `step` of `steps` optimizer steps, the last loss, the last metric."""

    step: int
    steps: int
    loss: float
    metric: float | None = None


def train(
    model: nn.Module,
    data: TokenizedTask,
    config: TrainConfig,
    *,
    learning_rate: float,
    seed: int = 0,
    d: int | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    checkpoint_dir: Path | None = None,
    checkpoint_every: int | None = None,
    keep_best: bool = False,
) -> TrialResult:
    """Train every parameter that requires grad, in place.

    Several processes, each with the same model and data, make one run: they share the rows of
    every batch, and end with the same bits.

    Args:
        model: of transformers, with the head of the task, and with or without an attached subspace.
            It ends with its last weights, or those of its best epoch, in evaluation mode.
        data: the tokenized task.
        config: how it is trained.
        learning_rate: peak; in a subspace that of z is normalized by `subspace_learning_rate`, and
            that of lam is not.
        seed: of the data order and of dropout.
        d: dimension of the attached subspace; None for full fine-tuning.
        on_progress: called in the main process after every optimizer step.
        checkpoint_dir: folder of the checkpoint that is written after each epoch, and that the run
            resumes from; only the main process uses it.
        checkpoint_every: also write it every so many optimizer steps.
        keep_best: end with the parameters of the best epoch, at the cost of a copy of them.

    Raises:
        D90Error: the checkpoint is damaged or of another run; the processes differ in what they
            were given.
    """
    run = Trainer(
        model,
        data,
        config if d is not None else replace(config, stop_hopeless=False),
        learning_rate=subspace_learning_rate(learning_rate, d, optimizer=config.optimizer),
        lam_learning_rate=learning_rate,
        seed=seed,
        keep_best=keep_best,
    )
    if checkpoint_dir is not None:
        run.resume(checkpoint_dir / CHECKPOINT)
    status: Status = "ok"
    message = ""
    try:
        while not run.is_over:
            loss = run.optimizer_step()
            if run.ends_epoch:
                run.evaluate()
            run.check_hopeless()
            if on_progress is not None and run.process_group.is_main_process:
                on_progress(Progress(run.state.step, run.steps, loss, run.state.last_metric))
            due = checkpoint_every is not None and run.state.step % checkpoint_every == 0
            if checkpoint_dir is not None and (run.ends_epoch or due):
                run.save(checkpoint_dir / CHECKPOINT)
    except FloatingPointError as error:
        status, message = "diverged", f"after {run.state.step} optimizer steps: {error}"
    finally:
        run.close()
    run.restore_best()
    return run.result(Trial(d, learning_rate, seed), status, message)


class Trainer(TrainingLoop[TrainState]):
    """A fine-tuning run under way.

    Args:
        model: trained in place.
        data: the tokenized task.
        config: how it is trained.
        learning_rate: peak, as the optimizer sees it.
        lam_learning_rate: that of SAID's lam, which has no weight decay; by default the same. The
            scale of lam is 1 at any d, so it is not normalized like that of z.
        seed: of the data order and of dropout.
        keep_best: keep a copy of the parameters of the best epoch.

    Raises:
        D90Error: as `TrainingLoop`; the processes differ; no gradient checkpointing for the model.
    """

    def __init__(
        self,
        model: nn.Module,
        data: TokenizedTask,
        config: TrainConfig,
        *,
        learning_rate: float,
        lam_learning_rate: float | None = None,
        seed: int = 0,
        keep_best: bool = False,
    ) -> None:
        lams = dict.fromkeys(lam_names(model), lam_learning_rate or learning_rate)
        num_trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
        super().__init__(
            model,
            TrainState(),
            config,
            optimizer=OPTIMIZERS[config.optimizer],
            learning_rate=learning_rate,
            own_learning_rates=lams,
            seed=seed,
            run_name=f"{num_trainable}-parameters",
            process_group=get_process_group(),
        )
        self.model, self.data, self.keep_best = model, data, keep_best
        if self.process_group.world_size > 1:
            self.process_group.assert_same_on_all_ranks("run", self._digests())
        if config.gradient_checkpointing:
            _enable_gradient_checkpointing(model)
        batches = math.ceil(len(data.train) / config.batch_size)
        self.steps_per_epoch = math.ceil(batches / config.gradient_accumulation_steps)
        self.steps = config.max_steps or config.epochs * self.steps_per_epoch
        self.evaluation_batch_size = data.kind.evaluation_factor * config.batch_size
        self._epoch_batches: tuple[int, list[list[int]]] = (-1, [])
        self._best: dict[str, Tensor] = {}
        self._mean: dict[str, Tensor] = {}
        self.start_trackers(self._settings())

    @property
    def ends_epoch(self) -> bool:
        return self.state.step % self.steps_per_epoch == 0 or self.state.step == self.steps

    @property
    def is_over(self) -> bool:
        return self.state.step == self.steps or self._is_stale or self.is_hopeless

    @property
    def is_hopeless(self) -> bool:
        """Whether it had collapsed after a quarter and after half of the steps."""
        return len(self.state.collapsed_at) == 2

    @property
    def _is_stale(self) -> bool:
        best, patience = self.state.best_epoch, self.config.patience
        if best is None or patience is None:
            return False
        return len(self.state.epochs) - 1 - best >= patience

    def optimizer_step(self) -> float:
        """As `TrainingLoop.optimizer_step`; the last one ends with the mean of `average_last`."""
        loss = super().optimizer_step()
        if self.config.average_last is not None:
            self._average(self.state.step - self._first_averaged + 1)
        return loss

    @property
    def _first_averaged(self) -> int:
        """The optimizer step, counted from 1, from which on parameters are averaged."""
        return self.steps - math.ceil((self.config.average_last or 0.0) * self.steps) + 1

    @torch.no_grad()
    def _average(self, count: int) -> None:
        """Take the parameters into their mean as the `count`-th; the last one puts it in place."""
        if count < 1:
            return
        for name, parameter in self.parameters.items():
            if count > 1 and name not in self._mean:
                raise D90Error(f"the checkpoint has no mean of {name}: remove it.")
            if count == 1:
                self._mean[name] = parameter.detach().clone()
            else:
                self._mean[name].add_(parameter - self._mean[name], alpha=1 / count)
            if self.state.step == self.steps:
                parameter.copy_(self._mean[name])

    def _losses(self, step: int) -> Iterator[Tensor]:
        return self._batch_losses(self._batches_of(step))

    def _batches_of(self, step: int) -> list[list[int]]:
        epoch, position = divmod(step, self.steps_per_epoch)
        if self._epoch_batches[0] != epoch:
            batches = training_batches(
                self.data.train.lengths, self.config.batch_size, seed=self.seed, epoch=epoch
            )
            self._epoch_batches = epoch, batches
        start = position * self.config.gradient_accumulation_steps
        return self._epoch_batches[1][start : start + self.config.gradient_accumulation_steps]

    def _batch_losses(self, batches: Sequence[Sequence[int]]) -> Iterator[Tensor]:
        """The contribution of each batch to the mean loss over all examples, or what they count.

        A process without a row of a batch skips it; it still takes part in the all-reduce.
        """
        kind, split = self.data.kind, self.data.train
        count = sum(kind.count(split, rows) for rows in batches)
        for rows in filter(None, map(self.process_group.shard, batches)):
            inputs, labels = kind.collate(self.data, split, rows, self.accelerator.device)
            with self.accelerator.autocast():
                loss = kind.loss(self.model, inputs, labels)
            yield loss / count

    def _record(self, loss: float) -> None:
        state = self.state
        if state.step == 1:
            state.first_loss = loss
        state.epoch_losses.append(loss)
        state.recent.append(loss)
        usual = max(state.first_loss, self.data.kind.constant_loss)
        if len(state.recent) == WINDOW and fmean(state.recent) > EXPLOSION * usual:
            raise FloatingPointError(f"mean loss {fmean(state.recent):.3g} over {WINDOW} steps")

    def evaluate(self) -> None:
        """Close the epoch with an evaluation.

        Raises:
            FloatingPointError: a prediction is not finite.
        """
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
            has_collapsed=scores.has_collapsed,
            skills=scores.skills,
        )
        state.epochs.append(epoch)
        state.epoch_losses.clear()
        if self.keep_best and state.best_epoch == len(state.epochs) - 1:
            self._best = {name: p.detach().clone() for name, p in self.parameters.items()}
        self.log(scores.metrics)

    def check_hopeless(self) -> None:
        """For `stop_hopeless`: note whether the run has collapsed, if it is time to look.

        That is after a quarter of the steps, and after half where the quarter was noted. At the end
        of an epoch its evaluation serves.

        Raises:
            FloatingPointError: a prediction is not finite.
        """
        state = self.state
        quarter, half = math.ceil(self.steps / 4), math.ceil(self.steps / 2)
        is_due = state.step == quarter or (state.step == half and quarter in state.collapsed_at)
        if not self.config.stop_hopeless or not is_due:
            return
        if self.ends_epoch:
            has_collapsed = state.epochs[-1].has_collapsed
        else:
            labels, predicted = predict_split(
                self.model,
                self.data,
                self.data.evaluation[self.data.primary],
                self.evaluation_batch_size,
                self.accelerator,
                self.process_group,
            )
            score = self.data.kind.scores(labels, predicted)[self.data.metric]
            has_collapsed = self.data.kind.has_collapsed(predicted.values, score)
        if has_collapsed:
            state.collapsed_at.append(state.step)

    def restore_best(self) -> None:
        """Restore the parameters of the best epoch, if they were kept."""
        for name, tensor in self._best.items():
            self.parameters[name].data.copy_(tensor)

    def _settings(self) -> dict[str, Any]:
        return {
            **self.config.to_dict(),
            "learning_rate": self.learning_rate,
            **{f"learning_rate of {name}": rate for name, rate in self.own_learning_rates.items()},
            "seed": self.seed,
        }

    def _identity(self) -> dict[str, Any]:
        return {
            **self._settings(),
            "trainable parameters": self.num_trainable,
            "training examples": len(self.data.train),
            "keep_best": self.keep_best,
        }

    def _digests(self) -> dict[str, str]:
        """What must be the same in every process, by name."""
        labels = [split.labels.tolist() for split in (self.data.train, self.data.train_eval_subset)]
        return {
            "settings": repr(self._identity()),
            "data": json_digest([self.data.digest(), labels]),
            "weights": named_tensors_digest(
                [*self.model.named_parameters(), *self.model.named_buffers()]
            ),
        }

    def _tensors(self) -> dict[str, Tensor]:
        kept = {"best": self._best, "mean": self._mean}
        copies = {f"{kind}.{name}": t for kind, of in kept.items() for name, t in of.items()}
        return {**super()._tensors(), **copies}

    def _check_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        copies = {k: tensor for k, tensor in tensors.items() if k.startswith(("best.", "mean."))}
        super()._check_tensors({key: t for key, t in tensors.items() if key not in copies})
        for key, tensor in copies.items():
            parameter = self.parameters.get(key[len("best.") :])
            if parameter is None or tensor.shape != parameter.shape:
                raise D90Error(f"'{key[:50]}' is of no parameter, or of another shape")

    def _load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        super()._load_tensors(tensors)
        for name, parameter in self.parameters.items():
            for kind, kept in (("best", self._best), ("mean", self._mean)):
                if f"{kind}.{name}" in tensors:
                    kept[name] = tensors[f"{kind}.{name}"].to(parameter.device)

    def result(self, trial: Trial, status: Status, message: str) -> TrialResult:
        """The result of the run, given how its loop ended."""
        if status == "ok":
            status, message = self._outcome()
        history = tuple(epoch.summary() for epoch in self.state.epochs)
        result = TrialResult(trial, status, seconds=self.seconds, history=history, message=message)
        if self.state.best_epoch is None:
            return result
        best = self.state.epochs[self.state.best_epoch]
        return replace(
            result,
            metric=best.metric,
            train_metric=best.train_metric,
            metrics=best.metrics,
            skills=self.state.best_skills,
        )

    def _outcome(self) -> tuple[Status, str]:
        """The status and message of a run that no error ended."""
        state = self.state
        if self.is_hopeless:
            quarter, half = state.collapsed_at
            of = f"after {half} of {self.steps} optimizer steps"
            return "stopped", f"{of}: it {self.data.kind.collapse}, as after {quarter}"
        if state.best_epoch is not None and state.epochs[state.best_epoch].has_collapsed:
            return "collapsed", f"its best evaluation {self.data.kind.collapse}"
        return "ok", ""

    def close(self) -> None:
        super().close()
        if self.config.gradient_checkpointing:
            _gradient_checkpointing_method(self.model, "disable")()


def _enable_gradient_checkpointing(model: nn.Module) -> None:
    """Raises: D90Error: the model does not support it."""
    if not getattr(model, "supports_gradient_checkpointing", False):
        raise D90Error(
            f"{type(model).__name__} has no gradient checkpointing: disable gradient_checkpointing "
            "and lower the batch size."
        )
    _gradient_checkpointing_method(model, "enable")({"use_reentrant": False})


def _gradient_checkpointing_method(model: nn.Module, action: str) -> Callable[..., None]:
    """The model's method; transformers deprecates the second of its names."""
    method = getattr(model, f"activation_checkpointing_{action}", None)
    return method or getattr(model, f"gradient_checkpointing_{action}")
