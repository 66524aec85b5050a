"""`--dry-run`: the trials of a study or a sweep, with their memory and time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text

from d90.cli.output import format_seconds, print_line, rows_table
from d90.cli.terminal import Terminal
from d90.experiments.problem import Problem
from d90.experiments.study import Study
from d90.experiments.sweep import SweepItem
from d90.search.protocols import Protocol
from d90.search.trial import Trial
from d90.training.memory import available_memory


@dataclass(frozen=True)
class Cost:
    """The cost of one kind of trial.

    Attributes:
        count: maximum number of trials.
        seconds: time of each.
        memory: of each, in bytes.
    """

    count: int
    seconds: float
    memory: int


def estimate_costs(problem: Problem, protocol: Protocol) -> dict[str, Cost]:
    """The cost of full fine-tuning and of subspace trials, from a few timed steps of each.

    Subspace trials are timed at the largest d, where they are slowest.
    """
    runner, baseline = problem.runner, protocol.baseline()
    largest = Trial(protocol.dimensions()[-1], protocol.learning_rates[0], protocol.seeds[0])
    kinds = {
        "full": (baseline[0], len(baseline)),
        "subspace": (largest, protocol.max_trials() - len(baseline)),
    }
    return {
        name: Cost(count, runner.estimate_seconds(trial), runner.estimate_memory(trial.d).total)
        for name, (trial, count) in kinds.items()
    }


def show_cost(problem: Problem, protocol: Protocol) -> None:
    """Print the trials of a study, their memory and their time."""
    console = Terminal()
    table = rows_table("trials", "at most", "each", "memory")
    with console.status("timing a few steps"):
        costs = estimate_costs(problem, protocol)
    for name, cost in costs.items():
        table.add_row(
            name, f"{cost.count:,}", format_seconds(cost.seconds), f"{cost.memory / 1e9:.2f} GB"
        )
    seconds = sum(cost.count * cost.seconds for cost in costs.values())
    device = problem.runner.device
    title = f"{problem.model_name} on {problem.task.name}: D = {problem.D:,}"
    console.print(Text(title, style="bold"))
    console.print()
    console.print(table)
    console.print()
    for line in (
        f"d: {_format_dims(protocol.dimensions())}",
        f"learning rates: {_format_rates(protocol.learning_rates)}",
        f"baseline learning rates: {_format_rates(protocol.baseline_learning_rates)}",
        f"seeds: {', '.join(map(str, protocol.seeds))}",
        f"memory: {available_memory(device) / 1e9:.1f} GB free on {device}",
        f"time: at most {format_seconds(seconds)}",
    ):
        print_line(line, console)


def show_sweep_cost(items: Sequence[SweepItem]) -> None:
    """Print the trials of each study of a sweep, their memory and their time, and the totals.

    A baseline that several studies share is counted for each of them.
    """
    console = Terminal()
    table = rows_table("study", "D", "d", "trials", "memory", "time")
    trials, total, memory = 0, 0.0, 0
    for item in items:
        with console.status(f"timing a few steps of {item.name}"):
            problem = item.load()
            protocol = Study(problem, item.protocol).protocol
            costs = estimate_costs(problem, protocol).values()
        count = sum(cost.count for cost in costs)
        seconds = sum(cost.count * cost.seconds for cost in costs)
        most = max(cost.memory for cost in costs)
        dims = protocol.dimensions()
        table.add_row(
            item.name,
            f"{problem.D:,}",
            f"{dims[0]:,} to {dims[-1]:,}",
            f"{count:,}",
            f"{most / 1e9:.2f} GB",
            format_seconds(seconds),
        )
        trials, total, memory = trials + count, total + seconds, max(memory, most)
    console.print(table)
    print_line(
        f"in total, at most: {trials:,} trials, {memory / 1e9:.2f} GB, {format_seconds(total)}",
        console,
    )


def _format_rates(rates: Sequence[float]) -> str:
    return ", ".join(f"{rate:g}" for rate in rates)


def _format_dims(dims: tuple[int, ...]) -> str:
    """The dimensions, abbreviated where there are many.

    >>> _format_dims(tuple(range(10, 1500, 10)))
    '10, 20, 30, ... 1,480, 1,490 (149 in total)'
    """
    if len(dims) <= 12:
        return ", ".join(f"{d:,}" for d in dims)
    first, last = (", ".join(f"{d:,}" for d in part) for part in (dims[:3], dims[-2:]))
    return f"{first}, ... {last} ({len(dims)} in total)"
