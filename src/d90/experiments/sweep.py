"""Many measurements as one: every model on every task by every method.

Each cell is a study of its own in the store, so a composition is resumed like one: what is
finished is never repeated, and cells share what they have in common, such as a baseline.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from d90.errors import D90Error, unknown_name
from d90.executors import Executor, SerialExecutor, TrialRunner
from d90.experiments import study as measurement
from d90.experiments.study import Callback, Study
from d90.models import loading
from d90.report import Summary, write_report
from d90.search.protocols import Protocol
from d90.search.subspace_config import METHODS
from d90.storage.store import Store
from d90.tasks import Task, load_task

OF_TASKS = ("max_train_samples", "max_eval_samples", "metric", "text_columns", "label_column")
"""Options that a task is loaded with."""


@dataclass(frozen=True)
class SweepItem:
    """One measurement to make.

    Attributes:
        model: as the user gave it.
        task: loaded; cells of one task share it.
        method: `did` or `said`.
        protocol: which trials to run, within what the model can have.
        options: other keywords of `d90.experiments.study.plan`.
    """

    model: str
    task: Task
    method: str
    protocol: Protocol
    options: Mapping[str, Any]

    @property
    def name(self) -> str:
        """In words: model, task and method."""
        return f"{self.model} on {self.task.name}, {self.method.upper()}"

    def open_study(self) -> Study:
        """Its study, with the model loaded.

        Raises:
            D90Error: as `d90.experiments.study.plan`.
        """
        return measurement.plan(
            self.model, self.task, method=self.method, protocol=self.protocol, **self.options
        )


@dataclass(frozen=True)
class SweepResult:
    """What came of the cells.

    Attributes:
        summaries: of the cells that were measured, in their order.
        failures: name of the cell -> why it could not be measured, for the others.
    """

    summaries: tuple[Summary, ...]
    failures: Mapping[str, str] = field(default_factory=dict)


class SweepCallback(Callback):
    """A callback that is also told which cell begins."""

    def on_item_begin(self, item: SweepItem, number: int, count: int) -> None:
        """Cell `number` of `count`, from 1, begins."""


def build_sweep(
    model_names: Sequence[str],
    task_names: Sequence[str],
    methods: Sequence[str],
    *,
    protocol: Protocol,
    **options: Any,
) -> tuple[SweepItem, ...]:
    """Every model on every task by every method; tasks first, then models, then methods.

    Everything that can be wrong with the input is found here, before anything is trained. A model
    tries the dimensions that it has: those from 1 (in SAID from m + 1) to D.

    Args:
        model_names, task_names: as in `d90.experiments.study.plan`.
        methods: `did`, `said` or both.
        protocol: of every cell.
        options: other keywords of `d90.experiments.study.plan`.

    Raises:
        D90Error: nothing to measure, or a name twice; as `d90.experiments.study.plan`.
    """
    for kind, names in (("model", model_names), ("task", task_names), ("method", methods)):
        _check_once(kind, names)
    for method in methods:
        if method not in METHODS:
            raise unknown_name("method", method, METHODS)
    for model in model_names:
        loading.resolve(model)
    about = {name: options.pop(name) for name in OF_TASKS if name in options}
    tasks = [load_task(name, **about) for name in task_names]
    return tuple(
        SweepItem(model, task, method, _clip(protocol, model, task, method, options), options)
        for task in tasks
        for model in model_names
        for method in methods
    )


def run_sweep(
    items: Sequence[SweepItem],
    store: Store | None,
    *,
    executor: Callable[[TrialRunner], Executor] = SerialExecutor,
    folder: Path | None = None,
    callback: SweepCallback | None = None,
    command: str = "",
) -> SweepResult:
    """Measure the cells one after another, each with its own report.

    A cell that cannot be measured, for want of memory for example, is named and left out.

    Args:
        cells: from `build_sweep`.
        store: where finished runs are kept; as in `d90.experiments.study.run`.
        executor: makes the place where the runs of a cell are made; by default this process.
        folder: where each cell's report goes, in a folder of its own; None for no reports.
        callback: told of everything that happens.
        command: what to type to run all of it again.

    Raises:
        D90Error: when another driver runs one of the studies; when a report cannot be written.
    """
    callback = callback or SweepCallback()
    summaries: list[Summary] = []
    failures: dict[str, str] = {}
    for number, item in enumerate(items, 1):
        callback.on_item_begin(item, number, len(items))
        try:
            study = item.open_study()
        except D90Error as error:
            failures[item.name] = str(error)
            continue
        summary = measurement.run(
            study,
            store,
            executor=executor(study.runner),
            callback=callback,
            command=command,
        )
        if folder is not None:
            write_report(summary, folder / study.name)
        summaries.append(summary)
        del study
        gc.collect()  # A model has cycles: two of them would not fit where one does.
    return SweepResult(tuple(summaries), failures)


def _clip(
    protocol: Protocol, model: str, task: Task, method: str, options: Mapping[str, Any]
) -> Protocol:
    """The protocol with the dimensions that the model's subspaces can have."""
    D, m = measurement.count_parameters(
        model, len(task.labels), options.get("groups", "layer"), options.get("scale", "tensor")
    )
    low = m + 1 if method == "said" else 1
    dims = protocol.dimensions()
    if low <= min(dims) and max(dims) <= D:
        return protocol
    try:
        return protocol.clip(low, D)
    except D90Error as error:
        raise D90Error(f"{model}, {method.upper()}: {error}") from error


def _check_once(kind: str, names: Sequence[str]) -> None:
    if not names:
        raise D90Error(f"no {kind}: give at least one.")
    twice = [name for name in names if list(names).count(name) > 1]
    if twice:
        raise D90Error(f"{kind} '{twice[0]}' is there twice: give every one once.")
