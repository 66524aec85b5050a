"""Runs a trial, from weights loaded once and examples tokenized once."""

from __future__ import annotations

import gc
import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from transformers import PreTrainedModel

from d90.distributed.process_group import get_process_group
from d90.errors import D90Error
from d90.executors.base import OnProgress, run_guarded
from d90.models import loading
from d90.search.subspace_config import SubspaceConfig
from d90.search.trial import Trial, TrialResult
from d90.subspace import attach, detach
from d90.tasks import Task, kind_of
from d90.training import TrainConfig, estimate_seconds, train
from d90.training.data import TokenizedTask, tokenize
from d90.training.evaluation import predict_split
from d90.training.memory import (
    Memory,
    available_memory,
    check_memory,
    estimate_memory,
    is_out_of_memory,
)

_log = logging.getLogger(__name__)


class TrialRunner:
    """Runs trials in this process: weights are loaded once, examples are tokenized once.

    Every trial starts from theta_0, so it does not depend on the trials before it. On a CPU, with
    one thread, the same trial gives the same result. `factory` makes an equal runner in another
    process.
    """

    def __init__(
        self,
        model_name: str,
        task: Task,
        config: TrainConfig,
        *,
        baseline_config: TrainConfig | None = None,
        subspace: SubspaceConfig | None = None,
        head_seed: int = 0,
        dtype: str = "float32",
        max_length: int = 128,
        max_train_eval_samples: int | None = None,
        checkpoint_dir: Path | None = None,
        checkpoint_every: int | None = None,
    ) -> None:
        """Load the model and tokenize the task.

        Args:
            model_name: as in `d90.models.loading.load`.
            task: what to train on.
            config: for trials in a subspace.
            baseline_config: for full fine-tuning; by default `config` with AdamW and a weight decay
                of 0.01.
            subspace: method, groups, projection and scale; each trial sets its own d and seed.
            head_seed, dtype: as in `d90.models.loading.load`.
            max_length, max_train_eval_samples: as in `d90.training.data.tokenize`.
            checkpoint_dir: holds a folder for each running trial, removed when the trial ends; a
                trial that was killed resumes from it.
            checkpoint_every: as in `d90.training.train`.

        Raises:
            D90Error: as `load` and `tokenize`; `max_length` exceeds that of the model; memory does
                not suffice for full fine-tuning, checked before anything is loaded.
        """
        self.factory: Callable[[], TrialRunner] = partial(
            TrialRunner,
            model_name,
            task,
            config,
            baseline_config=baseline_config,
            subspace=subspace,
            head_seed=head_seed,
            dtype=dtype,
            max_length=max_length,
            max_train_eval_samples=max_train_eval_samples,
            checkpoint_dir=checkpoint_dir,
            checkpoint_every=checkpoint_every,
        )
        self.name, self.task = model_name, task
        # `auto` means the precision of this machine, even for trials that run on another.
        self.config = replace(config, precision=config.autocast)
        full = baseline_config or config.for_baseline()
        self.baseline_config = replace(full, precision=full.autocast)
        self.subspace = subspace or SubspaceConfig()
        self.checkpoint_dir, self.checkpoint_every = checkpoint_dir, checkpoint_every
        self.head_seed = head_seed
        self.precision = config.autocast
        if self.baseline_config.autocast != self.precision:
            raise D90Error(
                f"precision '{config.precision}' in subspaces and "
                f"'{self.baseline_config.precision}' in full fine-tuning: give both the same."
            )
        self.process_group = get_process_group()
        self.device = Accelerator(mixed_precision=self.precision).device
        head = kind_of(task).model_options
        self._max_length, self._logit_positions = max_length, 0
        self._meta_model = loading.load_meta(model_name, **head, dtype=dtype)
        check_memory(model_name, self.estimate_memory(None), self.device)
        self.model, tokenizer = loading.load(model_name, **head, head_seed=head_seed, dtype=dtype)
        longest = loading.longest_input(self.model, tokenizer)
        if max_length > longest:
            raise D90Error(
                f"max_length {max_length}: model '{model_name}' takes at most {longest} tokens."
            )
        with loading.guarded(model_name):
            self.data = tokenize(
                task,
                tokenizer,
                kind=kind_of(task).on(self.model, tokenizer, longest),
                max_length=max_length,
                max_train_eval_samples=max_train_eval_samples,
            )
        splits = (self.data.train, *self.data.evaluation.values())
        self._logit_positions = max(map(self.data.kind.logit_positions, splits))
        if self._logit_positions:
            check_memory(model_name, self.estimate_memory(None), self.device)
        if self.process_group.world_size > 1:
            _ = self.measured_data  # All processes take part, and later only one may ask for it.

    @cached_property
    def measured_data(self) -> TokenizedTask:
        """The tokenized task; its kind has the scores of theta_0 if it starts from them."""
        data = self.data
        if not data.kind.starts_from_model:
            return data
        self._move_theta_0()
        model = _copy(self.model, share_parameters=True).to(self.device)
        primary = data.evaluation[data.primary]
        labels, predicted = predict_split(
            model,
            data,
            primary,
            data.kind.evaluation_factor * self.config.batch_size,
            Accelerator(mixed_precision=self.precision),
            self.process_group,
        )
        return replace(data, kind=data.kind.from_initial(primary, labels, predicted))

    def __getstate__(self) -> dict[str, Any]:
        """Pickle with theta_0 on the host: the other process may have no such device."""
        self.model.cpu()
        return self.__dict__

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Unpickle in another process, which may have another device."""
        self.__dict__.update(state)
        self.device = Accelerator(mixed_precision=self.precision).device

    def run(self, trial: Trial, on_progress: OnProgress | None = None) -> TrialResult:
        """Run a trial; one that raises gives a result with status `failed`.

        A trial that runs out of memory is retried once: other programs may have freed some.

        Raises:
            D90Error: as `run_guarded`; an argument of the study is invalid.
        """
        folder = self._folder(trial)
        result = run_guarded(
            lambda: self._train_with_retry(trial, on_progress, folder),
            trial,
            device=self.device,
            world_size=self.process_group.world_size,
        )
        if folder is not None and self.process_group.is_main_process:
            shutil.rmtree(folder, ignore_errors=True)
        return result

    def _train_with_retry(
        self, trial: Trial, on_progress: OnProgress | None, folder: Path | None
    ) -> TrialResult:
        try:
            return self._train(trial, on_progress, folder)
        except Exception as error:
            if self.process_group.world_size > 1 or not is_out_of_memory(error):
                raise
            _log.warning("%s ran out of memory (%s); retrying once.", trial, error)
        # Outside of the `except`, in which the error keeps the tensors of the attempt alive.
        gc.collect()
        self._empty_cache()
        return self._train(trial, on_progress, folder)

    def _train(
        self, trial: Trial, on_progress: OnProgress | None, folder: Path | None
    ) -> TrialResult:
        with self._prepared(trial) as model:
            return train(
                model,
                self.measured_data,
                self.config_for(trial.d),
                learning_rate=trial.learning_rate,
                seed=trial.seed,
                d=trial.d,
                on_progress=on_progress,
                checkpoint_dir=folder,
                checkpoint_every=self.checkpoint_every,
            )

    @property
    def trial_memory(self) -> int:
        """Bytes of memory that full fine-tuning takes."""
        return self.estimate_memory(None).total

    def estimate_memory(self, d: int | None) -> Memory:
        """Bytes of memory that a trial takes; d = None is full fine-tuning."""
        config = self.config_for(d)
        return estimate_memory(
            self._meta_model,
            d=d,
            optimizer=config.optimizer,
            batch_size=config.batch_size,
            max_length=self._max_length,
            logit_positions=self._logit_positions,
            precision=self.precision,
            device=self.device,
        )

    def estimate_seconds(self, trial: Trial) -> float:
        """Seconds that a trial will take, extrapolated from a few timed steps."""
        with self._prepared(trial) as model:
            return estimate_seconds(
                model,
                self.data,
                self.config_for(trial.d),
                learning_rate=trial.learning_rate,
                seed=trial.seed,
                d=trial.d,
            )

    def config_for(self, d: int | None) -> TrainConfig:
        """The training configuration for d; None is full fine-tuning."""
        return self.baseline_config if d is None else self.config

    @contextmanager
    def _prepared(self, trial: Trial) -> Iterator[PreTrainedModel]:
        """A copy of the model on the device, in its subspace; its memory is freed at exit."""
        self._move_theta_0()
        # A subspace reads theta_0 and never writes it; full fine-tuning trains the copy.
        model = _copy(self.model, share_parameters=trial.d is not None).to(self.device)
        if trial.d is not None:
            attach(model, **replace(self.subspace, d=trial.d, seed=trial.seed).to_dict())
        try:
            yield model
        finally:
            # The subspace makes reference cycles. Without them the model is freed at `del` and does
            # not wait for a garbage collection, which takes 0.2 s.
            if trial.d is not None:
                detach(model)
            del model
            self._empty_cache()

    def _move_theta_0(self) -> None:
        """Move theta_0 to the device, to stay there, if full fine-tuning fits beside it.

        If not, it stays on the host, and every trial transfers it.
        """
        is_elsewhere = self.model.device.type != self.device.type
        if is_elsewhere and self.trial_memory <= available_memory(self.device):
            self.model.to(self.device)

    def _empty_cache(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _folder(self, trial: Trial) -> Path | None:
        if self.checkpoint_dir is None:
            return None
        d = "full" if trial.d is None else trial.d
        return self.checkpoint_dir / f"d-{d}-rate-{trial.learning_rate!r}-seed-{trial.seed}"


def _copy(model: PreTrainedModel, *, share_parameters: bool) -> PreTrainedModel:
    """A copy with its own modules and buffers, whose parameters may share the model's memory."""
    shared = model.parameters() if share_parameters else ()
    return deepcopy(model, {id(p): nn.Parameter(p.detach(), p.requires_grad) for p in shared})
