"""The whole flow: a model and a task in, d90 out.

    task, model -> executor -> protocol <-> store -> estimate -> summary

Everything that decides a result is the study's identity; the same call continues the same study,
and a finished run is never repeated.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from d90 import models, random
from d90.errors import D90Error
from d90.estimators import estimate
from d90.executors.local import LocalExecutor
from d90.protocols import Grid, Protocol
from d90.records import Record, Trial
from d90.report import Summary
from d90.store import Store, StudyStore
from d90.subspace.layout import Layout, arrange, find_weights
from d90.tasks import Task, load_task
from d90.tasks.metrics import majority_score
from d90.training import Progress, TrainSettings

VERSIONED = ("d90", "torch", "transformers", "accelerate", "optuna", "scikit-learn")


class Listener:
    """What a display may want to know; every method does nothing until it is overridden."""

    def opened(self, study: Study, records: Sequence[Record]) -> None:
        """The study is open, with the records of earlier sessions."""

    def started(self, trial: Trial) -> None:
        """A run begins."""

    def progressed(self, trial: Trial, progress: Progress) -> None:
        """A run has made a step."""

    def finished(self, record: Record, records: Sequence[Record], *, reused: bool) -> None:
        """A run has ended; `reused` when another study of the store had it already."""


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
    """

    model_name: str
    task: Task
    protocol: Protocol
    executor: LocalExecutor
    subspace: Mapping[str, str]
    max_length: int

    @cached_property
    def D(self) -> int:
        """Number of distinct trainable weights."""
        return self._layout.D

    @cached_property
    def m(self) -> int:
        """Number of SAID groups under the study's grouping."""
        return self._layout.m

    @cached_property
    def _layout(self) -> Layout:
        model = self.executor.model
        groups, scale = self.subspace["groups"], self.subspace["scale"]
        return arrange(model, find_weights(model), groups=groups, scale=scale)[0]

    @cached_property
    def majority(self) -> float:
        """What the best constant predictor scores on the primary evaluation split."""
        labels = self.task.evaluation[self.task.primary].labels
        return majority_score(self.task.metric, labels)

    @cached_property
    def run_settings(self) -> dict[str, Any]:
        """What decides the result of every run, besides its d, learning rate and seed."""
        return {
            "model": self.model_name,
            "theta_0": models.fingerprint(self.executor.model),
            "task": self.task.name,
            "data": self.task.digest(),
            "random": random.SCHEME,
            "max_length": self.max_length,
        }

    @property
    def settings(self) -> dict[str, Any]:
        """The identity of the study, as JSON values."""
        protocol = {**asdict(self.protocol), "name": type(self.protocol).__name__.lower()}
        return {
            **self.run_settings,
            "subspace": dict(self.subspace),
            "training": _without_trial(asdict(self.executor.settings)),
            "full_training": _without_trial(asdict(self.executor.full_settings)),
            "protocol": json.loads(json.dumps(protocol)),
        }

    @property
    def prefix(self) -> str:
        """How the study's name begins."""
        parts = (Path(self.model_name).name, Path(self.task.name).name, self.subspace["method"])
        return "-".join(parts).replace(" ", "_")

    def key(self, trial: Trial) -> str:
        """A digest of all that decides what this run gives, in any study."""
        about = {
            **self.run_settings,
            "training": asdict(self.executor.trial_settings(trial)),
            "subspace": None if trial.is_full else {**self.subspace, "d": trial.d},
        }
        return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()

    def check(self) -> None:
        """Refuse dimensions that the subspace cannot have, before anything is trained.

        Raises:
            D90Error: for a d above D, or too small for SAID.
        """
        dims = self.protocol.dimensions()
        if max(dims) > self.D:
            raise D90Error(
                f"d = {max(dims):,} is larger than D = {self.D:,}, the number of weights of "
                f"{self.model_name}: lower --max-dim or --dims."
            )
        if self.subspace["method"] == "said" and min(dims) <= self.m:
            raise D90Error(
                f"d = {min(dims)} leaves SAID nothing for z: grouping '{self.subspace['groups']}' "
                f"has m = {self.m} scales and d must be larger. Raise --min-dim or --dims, or "
                "choose a coarser --groups."
            )


def plan(
    model: str,
    task: str | Path,
    *,
    method: str = "did",
    groups: str = "layer",
    projection: str = "fastfood",
    scale: str = "tensor",
    protocol: Protocol | None = None,
    training: TrainSettings | None = None,
    full_training: TrainSettings | None = None,
    max_length: int = 128,
    train_limit: int | None = None,
    eval_limit: int | None = None,
    text_columns: Sequence[str] | None = None,
    label_column: str | None = None,
    metric: str | None = None,
    dtype: str = "float32",
    head_seed: int = 0,
) -> Study:
    """Load what a study needs and check that it can run; nothing is trained.

    Args:
        model: `minilm-l6`, a local folder or a hub id.
        task: a task's name or a folder (`d90.tasks.load_task`).
        method: `did` or `said`.
        groups: of SAID, and of the projected gradients: `layer`, `module` or `tensor`.
        projection: a key of `d90.projections.PROJECTIONS`.
        scale: a key of `d90.subspace.SCALES`.
        protocol: which trials to run; the paper's grid by default.
        training: of the subspace runs; each trial brings its own learning rate and seed.
        full_training: of full fine-tuning; like `training`, with AdamW and weight decay.
        max_length: tokens a text or pair, at most.
        train_limit, eval_limit, text_columns, label_column, metric: as in `load_task`.
        dtype: of the weights, whatever the checkpoint holds.
        head_seed: seed of the head's random initialisation.

    Raises:
        D90Error: for anything in the input that cannot work, in one line.
    """
    columns = None if text_columns is None else tuple(text_columns)
    data = load_task(
        task,
        text_columns=columns,
        label_column=label_column,
        metric=metric,
        train_limit=train_limit,
        eval_limit=eval_limit,
    )
    subspace = {"method": method, "groups": groups, "projection": projection, "scale": scale}
    executor = LocalExecutor(
        model,
        data,
        training or TrainSettings(1.0),
        full_settings=full_training,
        subspace_options=subspace,
        head_seed=head_seed,
        dtype=dtype,
        max_length=max_length,
    )
    study = Study(model, data, protocol or Grid(), executor, subspace, max_length)
    study.check()
    return study


def run(
    study: Study, store: Store, *, listener: Listener | None = None, command: str = ""
) -> Summary:
    """Run every trial that the protocol asks for and the store does not have, and sum up.

    Args:
        study: from `plan`.
        store: where finished runs are kept.
        listener: told of everything that happens.
        command: what to type to run the study again, for the report.

    Raises:
        D90Error: when another driver runs the study; as the trials.
    """
    listener = listener or Listener()
    with store.study(study.settings, study.prefix) as open_study:
        facts = {"D": study.D, "m": study.m, "majority": study.majority, "command": command}
        open_study.set_facts(facts)
        listener.opened(study, open_study.records())
        started = _now()
        while trials := study.protocol.next_trials(open_study.records()):
            _run_one(study, open_study, trials[0], listener)
        records = open_study.records()
    return summarise(study, records, command=command, started=started)


def measure(
    model: str,
    task: str | Path,
    *,
    store: str | Path = "d90.db",
    listener: Listener | None = None,
    **options: Any,
) -> Summary:
    """Measure d90: `plan`, then `run`.

    Args:
        model, task, options: as in `plan`.
        store: a path (SQLite) or an SQLAlchemy URL; the same call continues there.
        listener: told of everything that happens.

    Returns:
        The summary: `summary.d90`, or `summary.status` and `summary.reason` where there is none.

    Raises:
        D90Error: for bad input, in one line.
    """
    return run(plan(model, task, **options), Store(store), listener=listener)


def summarise(
    study: Study, records: Sequence[Record], *, command: str = "", started: str | None = None
) -> Summary:
    """The summary of a study's records."""
    size = len(study.task.evaluation[study.task.primary])
    found = estimate(
        records,
        majority=study.majority,
        satisfaction=study.protocol.satisfaction,
        evaluation_size=size if study.task.metric == "accuracy" else None,
    )
    return Summary(
        model=study.model_name,
        task=study.task.name,
        metric=study.task.metric,
        **study.subspace,
        m=study.m,
        D=study.D,
        satisfaction=study.protocol.satisfaction,
        majority=study.majority,
        full_metric=found.full_metric,
        threshold=found.threshold,
        d90=found.d90,
        interval=found.interval,
        status=found.status,
        reason=found.reason,
        warnings=found.warnings,
        trials=tuple(records),
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


def _run_one(study: Study, open_study: StudyStore, trial: Trial, listener: Listener) -> None:
    key = study.key(trial)
    record = open_study.reuse(trial, key)
    reused = record is not None
    if record is None:
        handle = open_study.start(trial, key)
        listener.started(trial)
        record = study.executor.run(trial, lambda progress: listener.progressed(trial, progress))
        open_study.finish(handle, record)
    listener.finished(record, open_study.records(), reused=reused)


def _without_trial(settings: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in settings.items() if k not in ("learning_rate", "seed", "log_with")}


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
