"""The whole flow: a model and a task in, d90 out.

    task, model -> executor -> protocol <-> store -> estimate -> summary

Everything that decides a result is the study's identity; the same call continues the same study,
and a finished run is never repeated.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from d90.distributed.process_group import raise_on_all_ranks
from d90.errors import D90Error, unknown_name
from d90.executors import Executor, SerialExecutor, TrialRunner
from d90.executors import make_executor as make_executor
from d90.executors.distributed import run_distributed
from d90.experiments.scheduler import Scheduler
from d90.models import loading
from d90.projections import PROJECTIONS
from d90.report import Summary
from d90.rng import philox
from d90.search.estimate import estimate
from d90.search.protocols import Grid, Protocol
from d90.search.protocols.base import LARGEST_SEED, check_integers
from d90.search.subspace_config import METHODS
from d90.search.trial import Trial, TrialResult
from d90.storage.store import Store, study_name
from d90.subspace import GROUPINGS, SCALES
from d90.subspace.layout import build_layout, find_params
from d90.tasks import METRICS, Task, load_task, majority_score
from d90.training import Progress, TrainConfig
from d90.training.config import EXPONENT, REFERENCE_D
from d90.utils.digest import json_digest, state_digest

VERSIONED = ("d90", "torch", "transformers", "accelerate", "optuna", "scikit-learn")

NAMED: Mapping[str, Collection[str]] = {
    "method": METHODS,
    "groups": GROUPINGS,
    "projection": PROJECTIONS,
    "scale": SCALES,
    "dtype": loading.DTYPES,
    "metric": METRICS,
}
"""Options that take a name, and the names."""

NOT_ARCHITECTURE = {"_name_or_path", "transformers_version", "dtype"}
"""Keys of a model's configuration on which no result depends, or the weights already say."""


class Callback:
    """What a display may want to know; every method does nothing until it is overridden."""

    def on_study_begin(self, study: Study, results: Sequence[TrialResult]) -> None:
        """The study is open, with the records of earlier sessions."""

    def on_trial_begin(self, trial: Trial) -> None:
        """A run begins."""

    def on_progress(self, trial: Trial, progress: Progress) -> None:
        """A run has made a step."""

    def on_trial_end(
        self, study: Study, result: TrialResult, results: Sequence[TrialResult], *, reused: bool
    ) -> None:
        """A run has ended; `reused` when another study of the store had it already."""

    def on_trial_cancelled(self, trial: Trial) -> None:
        """A run made ahead is not needed any more, and ends without a record."""


@dataclass(frozen=True)
class Study:
    """What is measured: a model in subspaces, on a task, by a protocol.

    Attributes:
        model_name: as the user gave it.
        task: the loaded task.
        protocol: which trials to run.
        executor: where and how they run.
        subspace: keywords of `d90.subspace.attach`: method, groups, projection, scale.
        max_length: tokens a text or pair, at most.
        D: number of distinct trainable weights.
        m: number of groups that have a lam in SAID.
    """

    model_name: str
    task: Task
    protocol: Protocol
    runner: TrialRunner
    subspace: Mapping[str, str]
    max_length: int
    D: int
    m: int

    @cached_property
    def majority(self) -> float:
        """What the best constant predictor scores on the primary evaluation split."""
        labels = self.task.evaluation[self.task.primary].labels
        return majority_score(self.task.metric, labels)

    @property
    def family(self) -> str:
        """The kind of model, such as `roberta`."""
        return self.runner.model.config.model_type

    @property
    def examples(self) -> dict[str, int]:
        """How many texts a run trains on, and on how many each of its two metrics is measured."""
        data = self.runner.data
        evaluated = len(data.evaluation[data.primary])
        return {
            "train": len(data.train),
            "train_metric": len(data.train_eval_subset),
            "metric": evaluated,
        }

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What decides the result of every run, besides its d, learning rate and seed."""
        return {
            "theta_0": state_digest(self.runner.model),
            "architecture": _architecture(self.runner.model),
            "data": self.task.digest(),
            "tokens": self.runner.data.digest(),
            "random": philox.SCHEME,
        }

    @property
    def settings(self) -> dict[str, Any]:
        """What tells this study from others, as JSON values."""
        protocol = {**asdict(self.protocol), "name": type(self.protocol).__name__.lower()}
        return {
            "model": self.model_name,
            "task": self.task.name,
            "max_length": self.max_length,
            **self.identity,
            "subspace": dict(self.subspace),
            "training": self._training(self.runner.config),
            "baseline_training": self._training(self.runner.baseline_config),
            "normalization": {"reference_d": REFERENCE_D, "exponent": EXPONENT},
            "protocol": json.loads(json.dumps(protocol)),
        }

    @property
    def name(self) -> str:
        """Its name in a store."""
        return study_name(self.settings, self.prefix)

    @property
    def prefix(self) -> str:
        """How its name begins."""
        model, task = (Path(name).resolve().name for name in (self.model_name, self.task.name))
        return f"{model}-{task}-{self.subspace['method']}".replace(" ", "_")

    def key(self, trial: Trial) -> str:
        """A digest of all that decides what this run gives, in any study."""
        settings = self.runner.trial_config(trial)
        about = {
            **self.identity,
            "training": {**settings.to_dict(), "precision": self.runner.precision},
            "subspace": None if trial.is_full else {**self.subspace, "d": trial.d},
        }
        return json_digest(about)

    def _training(self, settings: TrainConfig) -> dict[str, Any]:
        """Without what each trial brings; `auto` is the precision of this machine."""
        plain = {**settings.to_dict(), "precision": self.runner.precision}
        return {name: plain[name] for name in plain.keys() - {"learning_rate", "seed"}}


@raise_on_all_ranks()
def plan(
    model: str,
    task: str | Path | Task,
    *,
    method: str = "did",
    groups: str = "layer",
    projection: str = "fastfood",
    scale: str = "tensor",
    protocol: Protocol | None = None,
    training: TrainConfig | None = None,
    baseline_training: TrainConfig | None = None,
    max_length: int = 128,
    max_train_samples: int | None = None,
    max_eval_samples: int | None = None,
    text_columns: Sequence[str] | None = None,
    label_column: str | None = None,
    metric: str | None = None,
    dtype: str = "float32",
    head_seed: int = 0,
) -> Study:
    """Load what a study needs and check that it can run; nothing is trained.

    Args:
        model: `minilm-l6`, a local folder or a hub id.
        task: a task's name or a folder (`d90.tasks.load_task`), or a loaded task, for which
            limits, columns and metric are decided already.
        method: `did` or `said`.
        groups: of SAID, and of the projected gradients: `layer`, `module` or `tensor`.
        projection: a key of `d90.projections.PROJECTIONS`.
        scale: a key of `d90.subspace.SCALES`.
        protocol: which trials to run; the paper's grid by default.
        training: of the subspace runs; each trial brings its own learning rate and seed.
        baseline_training: of full fine-tuning; like `training`, with AdamW and weight decay.
        max_length: tokens a text or pair, at most.
        max_train_samples, max_eval_samples, text_columns, label_column, metric: as in `load_task`.
        dtype: of the weights, whatever the checkpoint holds.
        head_seed: seed of the head's random initialization.

    Raises:
        D90Error: for anything in the input that cannot work, in one line.
    """
    subspace = {"method": method, "groups": groups, "projection": projection, "scale": scale}
    _check_names({**subspace, "dtype": dtype, "metric": metric or "accuracy"})
    check_integers("head_seed", [head_seed], at_least=0, at_most=LARGEST_SEED)
    loading.resolve(model)
    data = task
    if not isinstance(data, Task):
        data = load_task(
            data,
            text_columns=text_columns,
            label_column=label_column,
            metric=metric,
            max_train_samples=max_train_samples,
            max_eval_samples=max_eval_samples,
        )
    protocol = protocol or Grid()
    D, m = count_parameters(model, len(data.labels), groups, scale)
    _check_dimensions(protocol.dimensions(), model=model, D=D, m=m if method == "said" else 0)
    executor = TrialRunner(
        model,
        data,
        training or TrainConfig(1.0),
        baseline_config=baseline_training,
        subspace_options=subspace,
        head_seed=head_seed,
        dtype=dtype,
        max_length=max_length,
    )
    return Study(model, data, protocol, executor, subspace, max_length, D, m)


def run(
    study: Study,
    store: Store | None,
    *,
    executor: Executor | None = None,
    callback: Callback | None = None,
    command: str = "",
) -> Summary:
    """Run every trial that the protocol asks for and the store does not have, and sum up.

    Args:
        study: from `plan`.
        store: where finished runs are kept. Of several processes that a launcher started, which
            all call this and get the same, only the first one uses it; None in the others.
        executor: where they run, from `d90.executors.make`; in this process where None.
        callback: told of everything that happens.
        command: what to type to run the study again, for the report.

    Raises:
        D90Error: when another driver runs the study; as the trials.
    """
    callback = callback or Callback()
    started = _now()

    def drive(place: Executor) -> Sequence[TrialResult]:
        assert store is not None, "the first process needs a store"
        with store.study(study.settings, study.prefix) as open_study, place as workers:
            facts = {"D": study.D, "m": study.m, "majority": study.majority, "command": command}
            open_study.set_facts(facts)
            callback.on_study_begin(study, open_study.results())
            Scheduler(study, open_study, workers, callback).run()
            return open_study.results()

    place = executor or SerialExecutor(study.runner)
    results = run_distributed(study.runner, study.settings, place, drive)
    return summarize(study, results, command=command, started=started)


def measure(
    model: str,
    task: str | Path,
    *,
    store: str | Path = "d90.db",
    executor: str = "local",
    execution: Mapping[str, Any] | None = None,
    callback: Callback | None = None,
    **options: Any,
) -> Summary:
    """Measure d90: `plan`, then `run`.

    Args:
        model, task, options: as in `plan`.
        store: a path (SQLite) or a PostgreSQL URL; rerun the call to resume.
        executor: its name, as in `d90.executors.make`.
        execution: its other arguments there, such as `{"workers": 2}`.
        callback: told of everything that happens.

    Returns:
        The summary: `summary.d90`, or `summary.status` and `summary.reason` where there is none.

    Raises:
        D90Error: for bad input, in one line.
    """
    study = plan(model, task, **options)
    place = make_executor(executor, study.runner, **(execution or {}))
    with raise_on_all_ranks():
        opened = Store(store) if study.runner.process_group.is_main_process else None
    return run(study, opened, executor=place, callback=callback)


def summarize(
    study: Study, results: Sequence[TrialResult], *, command: str = "", started: str | None = None
) -> Summary:
    """The summary of a study's records."""
    size = len(study.task.evaluation[study.task.primary])
    found = estimate(
        results,
        majority=study.majority,
        target_fraction=study.protocol.target_fraction,
        evaluation_size=size if study.task.metric == "accuracy" else None,
    )
    return Summary(
        model=study.model_name,
        task=study.task.name,
        metric=study.task.metric,
        **study.subspace,
        m=study.m if study.subspace["method"] == "said" else None,
        D=study.D,
        family=study.family,
        examples=study.examples,
        target_fraction=study.protocol.target_fraction,
        majority=study.majority,
        full_metric=found.full_metric,
        threshold=found.threshold,
        d90=found.d90,
        interval=found.interval,
        status=found.status,
        reason=found.reason,
        warnings=found.warnings,
        trials=tuple(results),
        settings=study.settings,
        command=command,
        versions=versions(),
        started=started,
        finished=_now(),
    )


def versions() -> dict[str, str]:
    """What a result was made with."""
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in VERSIONED},
        "threads": str(torch.get_num_threads()),
    }


def _check_names(given: Mapping[str, str]) -> None:
    """Refuse an unknown name before anything is read."""
    for option, name in given.items():
        if name not in NAMED[option]:
            raise unknown_name(option, name, NAMED[option])


def count_parameters(model_name: str, classes: int, groups: str, scale: str) -> tuple[int, int]:
    """(D, m), from the shapes of the weights alone.

    Raises:
        D90Error: for a model that there is none of.
    """
    skeleton = loading.load_meta(model_name, num_labels=classes)
    # `rms` needs the values of the weights; it moves what `tensor` moves.
    shapes_only = "tensor" if scale == "rms" else scale
    layout, _ = build_layout(skeleton, find_params(skeleton), groups=groups, scale=shapes_only)
    return layout.D, layout.m


def _check_dimensions(dims: Sequence[int], *, model: str, D: int, m: int) -> None:
    """Refuse a d that no subspace of the model has: all of them must be above m and at most D."""
    if max(dims) > D:
        raise D90Error(
            f"d = {max(dims)} is larger than D = {D}, the number of weights of {model}: lower "
            "max_dim or dims."
        )
    if min(dims) <= m:
        raise D90Error(
            f"d = {min(dims)} is too small for SAID, whose m = {m} scales are among the d numbers: "
            f"raise min_dim or dims above {m}, or choose coarser groups."
        )


def _architecture(model: PreTrainedModel) -> str:
    """A digest of what the weights do not say, such as dropout and the number of heads."""
    config = model.config.to_diff_dict()
    return json_digest({name: config[name] for name in config.keys() - NOT_ARCHITECTURE})


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
