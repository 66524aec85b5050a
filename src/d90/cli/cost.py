"""`--dry-run`: what one study or several would run, in what memory and time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from d90.cli.output import format_seconds
from d90.experiments.study import Study
from d90.experiments.sweep import SweepItem
from d90.search.trial import Trial
from d90.training.memory import available_memory


@dataclass(frozen=True)
class Cost:
    """What one kind of run takes.

    Attributes:
        count: runs, at most.
        seconds: of each.
        memory: of each, in bytes.
    """

    count: int
    seconds: float
    memory: int


def costs(study: Study) -> dict[str, Cost]:
    """The cost of full fine-tuning and of subspace runs, from a few timed steps of each.

    Subspace runs are timed at the largest d, where they are slowest.
    """
    search, executor = study.protocol, study.runner
    rates = search.baseline_learning_rates
    full = Trial(None, rates[0], 0)
    largest = Trial(search.dimensions()[-1], search.learning_rates[0], search.seeds[0])
    kinds = {"full": (full, len(rates)), "subspace": (largest, search.max_trials() - len(rates))}
    return {
        name: Cost(count, executor.estimate_seconds(trial), executor.estimate_memory(trial.d).total)
        for name, (trial, count) in kinds.items()
    }


def show_plan(study: Study) -> None:
    """Print the runs of a study, their memory and their time."""
    console = Console()
    search, executor = study.protocol, study.runner
    table = _table("runs", "at most", "each", "memory")
    with console.status("timing a few steps"):
        found = costs(study)
    for name, cost in found.items():
        table.add_row(
            name, f"{cost.count:,}", format_seconds(cost.seconds), f"{cost.memory / 1e9:.2f} GB"
        )
    seconds = sum(cost.count * cost.seconds for cost in found.values())
    console.print(Text(f"{study.model_name} on {study.task.name}: D = {study.D:,}", style="bold"))
    console.print()
    console.print(table)
    console.print()
    for line in (
        f"d: {_listed(search.dimensions())}",
        f"learning rates: {', '.join(f'{rate:g}' for rate in search.learning_rates)}",
        f"full fine-tuning: {', '.join(f'{rate:g}' for rate in search.baseline_learning_rates)}",
        f"seeds: {', '.join(map(str, search.seeds))}",
        f"memory: {available_memory(executor.device) / 1e9:.1f} GB free on {executor.device}",
        f"time: at most {format_seconds(seconds)}",
    ):
        console.print(line, highlight=False)


def show_plans(items: Sequence[SweepItem]) -> None:
    """Print the runs of several studies, their memory and their time, a line each, and the sum.

    A baseline that several of them share is counted each time.
    """
    console = Console()
    table = _table("study", "D", "d", "runs", "memory", "time")
    table.columns[0].justify = "left"
    table.columns[0].no_wrap = False
    runs, total, memory = 0, 0.0, 0
    for item in items:
        with console.status(f"timing a few steps of {item.name}"):
            study = item.open_study()
            found = costs(study).values()
        count = sum(cost.count for cost in found)
        seconds = sum(cost.count * cost.seconds for cost in found)
        most = max(cost.memory for cost in found)
        dims = study.protocol.dimensions()
        table.add_row(
            item.name,
            f"{study.D:,}",
            f"{dims[0]:,} to {dims[-1]:,}",
            f"{count:,}",
            f"{most / 1e9:.2f} GB",
            format_seconds(seconds),
        )
        runs, total, memory = runs + count, total + seconds, max(memory, most)
    console.print(table)
    console.print(
        f"in all, at most: {runs:,} runs, {memory / 1e9:.2f} GB, {format_seconds(total)}",
        highlight=False,
    )


def _table(*headers: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for header in headers:
        table.add_column(header, justify="right", no_wrap=True)
    return table


def _listed(dims: tuple[int, ...]) -> str:
    """The dimensions, those in the middle left out where there are many.

    >>> _listed(tuple(range(10, 1500, 10)))
    '10, 20, 30, ... 1,480, 1,490 (149 of them)'
    """
    if len(dims) <= 12:
        return ", ".join(f"{d:,}" for d in dims)
    first, last = (", ".join(f"{d:,}" for d in part) for part in (dims[:3], dims[-2:]))
    return f"{first}, ... {last} ({len(dims)} of them)"
