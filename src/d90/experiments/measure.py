"""Measure d90: run a study's trials and summarize the results.

    problem, protocol -> study -> scheduler <-> store -> estimate -> summary

Everything that affects a result identifies the study: the same call resumes the same study, and a
finished trial is never repeated.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

import torch

from d90.distributed.process_group import raise_on_all_ranks
from d90.executors import Executor, SerialExecutor, make_executor
from d90.executors.distributed import run_distributed
from d90.experiments.beginning import begin, take_over
from d90.experiments.callbacks import Callback
from d90.experiments.problem import load_problem
from d90.experiments.scheduler import Scheduler
from d90.experiments.study import Study
from d90.search.estimate import estimate
from d90.search.history import history
from d90.search.protocols import AdaptiveProtocol, Protocol
from d90.search.summary import Summary
from d90.search.trial import TrialResult
from d90.storage.store import Store
from d90.tasks import Task
from d90.training import TrainConfig

PACKAGES = ("d90", "torch", "transformers", "accelerate", "optuna", "scikit-learn")
"""Packages whose versions a summary records."""


def measure(
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
    store: str | Path = "d90.db",
    executor: str = "serial",
    workers: int | None = None,
    address: str | None = None,
    cpus_per_trial: float = 1,
    gpus_per_trial: float | None = None,
    callback: Callback | None = None,
) -> Summary:
    """Measure d90 of a model on a task.

    Args:
        model, task: as in `load_problem`, like the other arguments not listed below.
        protocol: decides which trials to run; adaptive by default.
        store: a path (SQLite) or a PostgreSQL URL; the same call resumes from it.
        executor, workers, address, cpus_per_trial, gpus_per_trial: where trials run, as in
            `d90.executors.make_executor`.
        callback: notified of progress.

    Returns:
        The summary: `summary.d90`, or `summary.status` and `summary.reason` if there is none.

    Raises:
        D90Error: an argument is invalid, or a resource that the study needs cannot be used.
    """
    protocol = protocol or AdaptiveProtocol()
    problem = load_problem(
        model,
        task,
        method=method,
        groups=groups,
        projection=projection,
        scale=scale,
        dims=protocol.dimensions(),
        training=training,
        baseline_training=baseline_training,
        max_length=max_length,
        max_train_samples=max_train_samples,
        max_eval_samples=max_eval_samples,
        task_kind=task_kind,
        text_columns=text_columns,
        label_column=label_column,
        metric=metric,
        answer_pattern=answer_pattern,
        max_new_tokens=max_new_tokens,
        chat_template=chat_template,
        criterion=criterion,
        dtype=dtype,
        head_seed=head_seed,
    )
    runner_executor = make_executor(
        executor,
        problem.runner,
        workers=workers,
        address=address,
        cpus_per_trial=cpus_per_trial,
        gpus_per_trial=gpus_per_trial,
    )
    study = Study(problem, protocol)
    return run_with_store(study, store, executor=runner_executor, callback=callback)


def run_with_store(
    study: Study, store: str | Path, *, executor: Executor, callback: Callback | None
) -> Summary:
    """`run_study` with the store at a path or a URL, which only the main process opens.

    Raises:
        D90Error: as `run_study` and `Store`.
    """
    with raise_on_all_ranks():
        opened = Store(store) if study.problem.runner.process_group.is_main_process else None
    return run_study(study, opened, executor=executor, callback=callback)


def run_study(
    study: Study,
    store: Store | None,
    *,
    executor: Executor | None = None,
    callback: Callback | None = None,
    command: str = "",
) -> Summary:
    """Run every trial that the protocol requests and the store lacks, and summarize.

    Args:
        study: what to run.
        store: keeps finished trials. Of several processes that a launcher started, all call this
            and return the same, but only the main process uses the store; None in the others.
        executor: where trials run (`d90.executors.make_executor`); in this process if None.
        callback: notified of progress.
        command: the command line that runs the study again, for the report.

    Raises:
        D90Error: another process runs the study; the store or the executor cannot be used.
    """
    callback = callback or Callback()
    started = _now()
    problem = study.problem

    def drive(executor: Executor) -> Sequence[TrialResult]:
        assert store is not None, "the main process needs a store"
        with store.study(study.settings, study.prefix) as open_study, executor as entered:
            open_study.set_facts({**problem.facts, "command": command})
            begun, given = begin(study, store, open_study, max(entered.slots, 1))
            callback.on_study_begin(begun, open_study.results())
            taken = take_over(begun, open_study, given)
            if taken:
                callback.on_results_taken_over(begun, taken, open_study.results())
            Scheduler(begun, open_study, entered, callback).run()
            return open_study.results()

    executor = executor or SerialExecutor(problem.runner)
    results = run_distributed(problem.runner, study.settings, executor, drive)
    return summarize(study, results, command=command, started=started)


def summarize(
    study: Study, results: Sequence[TrialResult], *, command: str = "", started: str | None = None
) -> Summary:
    """The summary of a study's results."""
    problem, target_fraction = study.problem, study.protocol.target_fraction
    estimated = estimate(
        study.scored(results),
        majority=problem.floor,
        target_fraction=target_fraction,
        criterion_of=study.protocol.criterion_of,
        evaluation_size=problem.evaluation_size if problem.has_binomial_noise else None,
        dims=study.protocol.dimensions(),
        D=problem.D,
        reference=problem.floor_reference,
    )
    return Summary(
        **problem.description(),
        metric=problem.metric,
        criterion=problem.criterion,
        criterion_of=study.protocol.criterion_of,
        target_fraction=target_fraction,
        majority=problem.majority,
        reference=problem.reference,
        full_metric=estimated.full_metric,
        threshold=estimated.threshold,
        d90=estimated.d90,
        interval=estimated.interval,
        first_passing_d=estimated.first_passing_d,
        band=estimated.band,
        history=history(study.protocol, study.scored(results)),
        status=estimated.status,
        reason=estimated.reason,
        warnings=estimated.warnings,
        trials=tuple(results),
        settings=study.settings,
        command=command,
        versions=versions(),
        started=started,
        finished=_now(),
    )


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on, and the thread count."""
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
        "threads": str(torch.get_num_threads()),
    }


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
