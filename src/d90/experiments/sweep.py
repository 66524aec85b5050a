"""A sweep: every model on every task by every method, one study each.

Each item is a study of its own in the store, so a sweep is resumed like a single study: finished
trials are never repeated, and items share what they have in common, such as a baseline.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from d90.errors import D90Error
from d90.executors import Executor, Runner, SerialExecutor
from d90.experiments.callbacks import Callback
from d90.experiments.measure import run_study
from d90.experiments.problem import Problem, check_options, count_parameters, load_problem
from d90.experiments.study import Study
from d90.models import loading
from d90.report import write_report
from d90.search.criteria import check_criterion
from d90.search.protocols import Protocol
from d90.search.subspace_config import SubspaceConfig
from d90.search.summary import Summary
from d90.storage.store import Store
from d90.tasks import Task, kind_of, load_task

TASK_OPTIONS = (
    "max_train_samples",
    "max_eval_samples",
    "metric",
    "task_kind",
    "text_columns",
    "label_column",
    "answer_pattern",
    "max_new_tokens",
    "chat_template",
)
"""Arguments of `load_problem` that belong to `load_task`."""


@dataclass(frozen=True)
class SweepItem:
    """One study to run.

    Attributes:
        model: as the user gave it.
        task: loaded; items on one task share it.
        method: `did` or `said`.
        protocol: decides which trials to run, limited to dimensions that the model has.
        options: other arguments of `load_problem`.
    """

    model: str
    task: Task
    method: str
    protocol: Protocol
    options: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Model, task and method, for display."""
        return f"{self.model} on {self.task.name}, {self.method.upper()}"

    def load(self) -> Problem:
        """Load the model.

        Raises:
            D90Error: as `load_problem`.
        """
        dims = self.protocol.dimensions()
        return load_problem(self.model, self.task, method=self.method, dims=dims, **self.options)


@dataclass(frozen=True)
class SweepResult:
    """Results of a sweep.

    Attributes:
        summaries: of the items that were measured, in order.
        failures: name of each item that could not be measured -> the reason.
    """

    summaries: tuple[Summary, ...]
    failures: Mapping[str, str] = field(default_factory=dict)


class SweepCallback(Callback):
    """A callback that is also notified of each item."""

    def on_item_begin(self, item: SweepItem, number: int, count: int) -> None:
        """Item `number` of `count`, counted from 1, begins."""


def build_sweep(
    model_names: Sequence[str],
    task_names: Sequence[str],
    methods: Sequence[str],
    *,
    protocol: Protocol,
    **options: Any,
) -> tuple[SweepItem, ...]:
    """Every model on every task by every method; tasks first, then models, then methods.

    All input is checked here, before anything is trained. For each model, the protocol is limited
    to dimensions that it has: those from 1 (in SAID from m + 1) to D.

    Args:
        model_names, task_names: as in `load_problem`.
        methods: `did`, `said` or both.
        protocol: of every item.
        options: other arguments of `load_problem`.

    Raises:
        D90Error: a list is empty or has a duplicate; as `load_problem`.
    """
    for kind, names in (("model", model_names), ("task", task_names), ("method", methods)):
        _check_once(kind, names)
    names = {name: options[name] for name in ("groups", "projection", "scale") if name in options}
    subspaces = [SubspaceConfig(method, **names) for method in methods]
    checked = ("dtype", "metric", "criterion", "head_seed", "max_length")
    check_options(**{name: options[name] for name in checked if name in options})
    for model in model_names:
        loading.resolve(model)
    task_options = {name: options.pop(name) for name in TASK_OPTIONS if name in options}
    tasks = [load_task(name, **task_options) for name in task_names]
    for task in tasks:
        check_criterion(options.get("criterion"), task.metric, kind_of(task).criteria)
    return tuple(
        SweepItem(model, task, s.method, _clip(protocol, model, task, s), options)
        for task in tasks
        for model in model_names
        for s in subspaces
    )


def run_sweep(
    items: Sequence[SweepItem],
    store: Store | None,
    *,
    executor: Callable[[Runner], Executor] = SerialExecutor,
    folder: Path | None = None,
    callback: SweepCallback | None = None,
    command: str = "",
) -> SweepResult:
    """Measure the items one after another, each with its own report.

    An item that cannot be measured, out of memory for example, is skipped and listed in `failures`.

    Args:
        items: from `build_sweep`.
        store: keeps finished trials; as in `run_study`.
        executor: makes an item's executor; by default its trials run in this process.
        folder: holds a folder with the report of each item; None for no reports.
        callback: notified of progress.
        command: the command line that runs the sweep again.

    Raises:
        D90Error: another process runs one of the studies; a report cannot be written.
    """
    callback = callback or SweepCallback()
    summaries: list[Summary] = []
    failures: dict[str, str] = {}
    for number, item in enumerate(items, 1):
        callback.on_item_begin(item, number, len(items))
        try:
            study = Study(item.load(), item.protocol)
        except D90Error as error:
            failures[item.name] = str(error)
            continue
        summary = run_study(
            study,
            store,
            executor=executor(study.problem.runner),
            callback=callback,
            command=command,
        )
        if folder is not None:
            write_report(summary, folder / study.name)
        summaries.append(summary)
        del study
        gc.collect()  # A model has reference cycles: without this, two would be in memory at once.
    return SweepResult(tuple(summaries), failures)


def _clip(protocol: Protocol, model: str, task: Task, subspace: SubspaceConfig) -> Protocol:
    """The protocol, limited to dimensions that the model has."""
    head = kind_of(task).model_options
    D, m = count_parameters(model, head, subspace.groups, subspace.scale)
    low = m + 1 if subspace.is_said else 1
    dims = protocol.dimensions()
    if low <= min(dims) and max(dims) <= D:
        return protocol
    try:
        return protocol.clip(low, D)
    except D90Error as error:
        raise D90Error(f"{model}, {subspace.method.upper()}: {error}") from error


def _check_once(kind: str, names: Sequence[str]) -> None:
    if not names:
        raise D90Error(f"no {kind}: give at least one.")
    duplicates = [name for name in names if list(names).count(name) > 1]
    if duplicates:
        raise D90Error(f"duplicate {kind} '{duplicates[0]}': give each one once.")
