"""`--plan`: what a study would run, in what memory and time."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from d90.cli.display import duration
from d90.measurement import Study
from d90.memory import available_memory
from d90.records import Trial


def show_plan(study: Study) -> None:
    """Print the runs, and their memory and time from a few timed steps of each kind.

    Subspace runs are timed at the largest d, where they are slowest.
    """
    console = Console()
    search, executor = study.protocol, study.executor
    dims, rates = search.dimensions(), search.full_learning_rates
    full = Trial(None, rates[0], 0)
    largest = Trial(dims[-1], search.learning_rates[0], search.seeds[0])
    kinds = (("full", full, len(rates)), ("subspace", largest, search.bound() - len(rates)))
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for header in ("runs", "at most", "each", "memory"):
        table.add_column(header, justify="right", no_wrap=True)
    seconds = 0.0
    with console.status("timing a few steps"):
        for name, trial, count in kinds:
            each = executor.predicted_seconds(trial)
            seconds += count * each
            memory = executor.predicted_memory(trial.d).total / 1e9
            table.add_row(name, f"{count:,}", duration(each), f"{memory:.2f} GB")
    free = available_memory(executor.device) / 1e9
    console.print(Text(f"{study.model_name} on {study.task.name}: D = {study.D:,}", style="bold"))
    console.print()
    console.print(table)
    console.print()
    for line in (
        f"d: {_listed(dims)}",
        f"learning rates: {', '.join(f'{rate:g}' for rate in search.learning_rates)}",
        f"full fine-tuning: {', '.join(f'{rate:g}' for rate in rates)}",
        f"seeds: {', '.join(map(str, search.seeds))}",
        f"memory: {free:.1f} GB free on {executor.device}",
        f"time: at most {duration(seconds)}",
    ):
        console.print(line, highlight=False)


def _listed(dims: tuple[int, ...]) -> str:
    """The dimensions, those in the middle left out where there are many.

    >>> _listed(tuple(range(10, 1500, 10)))
    '10, 20, 30, ... 1,480, 1,490 (149 of them)'
    """
    if len(dims) <= 12:
        return ", ".join(f"{d:,}" for d in dims)
    first, last = (", ".join(f"{d:,}" for d in part) for part in (dims[:3], dims[-2:]))
    return f"{first}, ... {last} ({len(dims)} of them)"
