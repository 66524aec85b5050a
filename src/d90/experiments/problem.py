"""What is fine-tuned: a model on a task, in subspaces of one kind.

What is tried on it is up to a study (`d90.experiments.study`) or to one fine-tune
(`d90.experiments.tune`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from d90.distributed.process_group import raise_on_all_ranks
from d90.errors import D90Error, unknown_name
from d90.executors import TrialRunner
from d90.models import loading
from d90.rng import philox
from d90.search.criteria import PRETRAINED_MODEL, SMOOTH, check_criterion, score_floor
from d90.search.protocols.base import LARGEST_SEED, check_integers
from d90.search.subspace_config import SubspaceConfig
from d90.search.trial import Trial
from d90.subspace.layout import build_layout, find_params
from d90.tasks import Kind, Task, kind_of, known_metrics, load_task
from d90.training import TrainConfig, subspace_learning_rate
from d90.training.config import EXPONENTS, MAX_COUNT, REFERENCE_D
from d90.utils.digest import json_digest, state_digest

NOT_ARCHITECTURE = {"_name_or_path", "transformers_version", "dtype"}
"""Keys of a model's configuration that do not affect results, or are covered by the weights."""

FRACTIONS = ("accuracy", "exact_match", "choice_accuracy")
"""Metrics that are a fraction of the evaluation examples, with its binomial noise."""

SHARED_SETTINGS = ("theta_0", "data", "tokens", "random")
"""Settings of studies whose trials may have the same keys."""


@dataclass(frozen=True)
class Problem:
    """A model, a task and a kind of subspace, loaded and ready to train.

    Attributes:
        model_name: as the user gave it.
        task: the loaded task.
        subspace: method, groups, projection and scale; each trial sets its own d and seed.
        runner: runs trials; it holds the model, the tokenized task and the training configuration.
        max_length: maximum number of tokens per example.
        D: number of distinct trainable parameters of the model.
        m: number of groups that have a lam in SAID.
        criterion: what trials are scored by: the task's metric, `brier` or `nll`. The same trials
            serve all of them.
    """

    model_name: str
    task: Task
    subspace: SubspaceConfig
    runner: TrialRunner
    max_length: int
    D: int
    m: int
    criterion: str

    @cached_property
    def kind(self) -> Kind:
        """What the task asks of the model."""
        kind = kind_of(self.task)
        return self.runner.measured_data.kind if kind.starts_from_model else kind

    @property
    def majority(self) -> float:
        """Score of the kind's reference on the primary evaluation split."""
        return self._majority

    @cached_property
    def _majority(self) -> float:
        labels = self.task.evaluation[self.task.primary].labels
        return self.kind.constant_score(self.task.metric, labels)

    @property
    def reference(self) -> str:
        """What `majority` is the score of, such as the majority class."""
        return self.kind.reference_of(self.task.metric)

    @property
    def floor(self) -> float:
        """Score of the best constant predictor, or of the pretrained model, by the criterion."""
        return score_floor(self.criterion, self.majority)

    @property
    def floor_reference(self) -> str:
        """What `floor` is the score of: a skill is 0 for the pretrained model if known."""
        is_skill = self.criterion in SMOOTH and self.kind.starts_from_model
        return PRETRAINED_MODEL if is_skill else self.reference

    @property
    def metric(self) -> str:
        """The task's."""
        return self.task.metric

    @property
    def evaluation_size(self) -> int:
        """Number of examples of the primary evaluation split."""
        return len(self.task.evaluation[self.task.primary])

    @property
    def has_binomial_noise(self) -> bool:
        """Whether the criterion is a fraction, or a skill, whose noise is of its size."""
        return self.criterion in (*FRACTIONS, *SMOOTH)

    @property
    def settings(self) -> dict[str, Any]:
        """What identifies its studies in a store, besides the protocol, as JSON values."""
        runner = self.runner
        return {
            "model": self.model_name,
            "task": self.task.name,
            "max_length": self.max_length,
            **self.identity,
            "subspace": self.subspace.names(),
            "training": _training_settings(runner.config, runner.precision),
            "baseline_training": _training_settings(runner.baseline_config, runner.precision),
            "normalization": {
                "reference_d": REFERENCE_D,
                "exponent": EXPONENTS[runner.config.optimizer],
            },
            "criterion": self.criterion,
        }

    @property
    def shared_settings(self) -> Sequence[str]:
        """Those of `identity` that are not the architecture's."""
        return SHARED_SETTINGS

    @property
    def facts(self) -> dict[str, Any]:
        """D, m and the scores without training."""
        initial = self.kind.initial_scores
        known = {"initial": initial} if initial else {}
        return {"D": self.D, "m": self.m, "majority": self.majority, **known}

    @property
    def prefix(self) -> str:
        """Model, task and method."""
        model, task = (Path(name).resolve().name for name in (self.model_name, self.task.name))
        return f"{model}-{task}-{self.subspace.method}".replace(" ", "_")

    @property
    def title(self) -> str:
        """Model, task, D and the kind of subspace."""
        subspace = self.subspace
        return (
            f"{self.model_name} on {self.task.name}: D = {self.D:,}, {subspace.method.upper()}, "
            f"{subspace.projection}, scale {subspace.scale}"
        )

    def description(self) -> dict[str, Any]:
        """Fields of a summary that say what is trained."""
        data = self.runner.data
        return {
            "model": self.model_name,
            "task": self.task.name,
            "subspace": self.subspace,
            "m": self.m if self.subspace.is_said else None,
            "D": self.D,
            "family": self.runner.model.config.model_type,
            "examples": {
                "train": len(data.train),
                "train_metric": len(data.train_eval_subset),
                "metric": len(data.evaluation[data.primary]),
            },
            "initial": self.kind.initial_scores,
        }

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What decides the result of every trial, besides its d, learning rate and seed."""
        return {
            "theta_0": state_digest(self.runner.model),
            "architecture": _architecture(self.runner.model),
            "data": self.task.digest(),
            "tokens": self.runner.data.digest(),
            "random": philox.SCHEME,
        }

    def key(self, trial: Trial) -> str:
        """A digest of everything that decides the result of the trial, in any study."""
        config = self.runner.config_for(trial.d)
        rate = trial.learning_rate
        training = {
            **config.to_dict(),
            "precision": self.runner.precision,
            "learning_rate": subspace_learning_rate(rate, trial.d, optimizer=config.optimizer),
            "seed": trial.seed,
        }
        if self.subspace.is_said and not trial.is_full:
            training["lam_learning_rate"] = rate
        content = {
            **self.identity,
            "training": training,
            "subspace": None if trial.is_full else {**self.subspace.names(), "d": trial.d},
        }
        return json_digest(content)

    def check_dims(self, dims: Sequence[int]) -> None:
        """Check that the model has subspaces of these dimensions.

        Raises:
            D90Error: a d is above D, or in SAID not above m.
        """
        _check_dims(self.subspace, dims, self.D, self.m)


@raise_on_all_ranks()
def load_problem(
    model: str,
    task: str | Path | Task,
    *,
    method: str = "did",
    groups: str = "layer",
    projection: str = "fastfood",
    scale: str = "tensor",
    dims: Sequence[int] = (),
    training: TrainConfig | None = None,
    baseline_training: TrainConfig | None = None,
    max_length: int = 128,
    max_train_samples: int | None = None,
    max_eval_samples: int | None = None,
    task_kind: str | None = None,
    text_columns: Sequence[str] | None = None,
    label_column: str | None = None,
    metric: str | None = None,
    answer_pattern: str | None = None,
    max_new_tokens: int | None = None,
    chat_template: str | None = None,
    criterion: str | None = None,
    dtype: str = "float32",
    head_seed: int = 0,
) -> Problem:
    """Load a model and a task, and check that they can be trained. Nothing is trained.

    Args:
        model: a packaged model such as `minilm-l6`, a local folder, a GGUF file or a hub id,
            optionally with `@REVISION`.
        task: a task's name or a folder (`d90.tasks.load_task`), or a loaded task, whose limits,
            columns and metric are already decided.
        method, groups, projection, scale: of the subspaces (`SubspaceConfig`).
        dims: dimensions to be tried: checked before the weights are loaded.
        training: configuration of training in a subspace.
        baseline_training: of full fine-tuning; by default `training` with AdamW and weight decay.
        max_length: maximum number of tokens per example.
        max_train_samples, max_eval_samples, task_kind, text_columns, label_column, metric,
            answer_pattern, max_new_tokens, chat_template: as in `load_task`.
        criterion: what trials are scored by: the task's metric, the default, or for classification
            `brier` or `nll`.
        dtype: weight dtype; overrides the checkpoint's.
        head_seed: seed of the head's initialization.

    Raises:
        D90Error: an argument is invalid; model or task cannot be loaded, or do not fit in memory.
    """
    subspace = SubspaceConfig(method, groups, projection, scale)
    check_options(
        dtype=dtype,
        metric=metric,
        criterion=criterion,
        head_seed=head_seed,
        max_length=max_length,
    )
    loading.resolve(model)
    if not isinstance(task, Task):
        task = load_task(
            task,
            task_kind=task_kind,
            text_columns=text_columns,
            label_column=label_column,
            metric=metric,
            answer_pattern=answer_pattern,
            max_new_tokens=max_new_tokens,
            chat_template=chat_template,
            max_train_samples=max_train_samples,
            max_eval_samples=max_eval_samples,
        )
    kind = kind_of(task)
    criterion = check_criterion(criterion, task.metric, kind.criteria)
    D, m = count_parameters(model, kind.model_options, groups, scale)
    _check_dims(subspace, dims, D, m)
    runner = TrialRunner(
        model,
        task,
        training or TrainConfig(),
        baseline_config=baseline_training,
        subspace=subspace,
        head_seed=head_seed,
        dtype=dtype,
        max_length=max_length,
    )
    return Problem(model, task, subspace, runner, max_length, D, m, criterion)


def check_options(
    *,
    dtype: str = "float32",
    metric: str | None = None,
    criterion: str | None = None,
    head_seed: int = 0,
    max_length: int = 128,
) -> None:
    """Check arguments of `load_problem` that need neither the model nor the task.

    Raises:
        D90Error: one is invalid.
    """
    for argument, name, choices in (
        ("dtype", dtype, loading.DTYPES),
        ("metric", metric, known_metrics()),
        ("criterion", criterion, (*known_metrics(), *SMOOTH)),
    ):
        if name is not None and name not in choices:
            raise unknown_name(argument, name, choices)
    check_integers("head_seed", [head_seed], at_least=0, at_most=LARGEST_SEED)
    if not 1 < max_length <= MAX_COUNT:
        raise D90Error(f"max_length {max_length}: at least 2 tokens are expected.")


def count_parameters(
    model_name: str, head: Mapping[str, Any], groups: str, scale: str
) -> tuple[int, int]:
    """(D, m), from the shapes of the weights alone; `head` is `Kind.model_options`.

    Raises:
        D90Error: the model does not exist.
    """
    meta_model = loading.load_meta(model_name, **head)
    # `rms` needs the values of the weights; it trains the parameters that `tensor` trains.
    shapes_only = "tensor" if scale == "rms" else scale
    layout, _ = build_layout(meta_model, find_params(meta_model), groups=groups, scale=shapes_only)
    return layout.D, layout.m


def _check_dims(subspace: SubspaceConfig, dims: Sequence[int], D: int, m: int) -> None:
    for d in {max(dims), min(dims)} if dims else ():
        replace(subspace, d=int(d)).check_size(D, m)


def _architecture(model: PreTrainedModel) -> str:
    """A digest of what the weights do not determine, such as dropout and the number of heads."""
    config = model.config.to_diff_dict()
    return json_digest({name: config[name] for name in config.keys() - NOT_ARCHITECTURE})


def _training_settings(config: TrainConfig, precision: str) -> dict[str, Any]:
    """With `auto` resolved to the precision of this machine."""
    return {**config.to_dict(), "precision": precision}
