"""`--plan`: what a study would run, in what memory and time."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from d90.measurement import Study
from d90.records import Trial


def show_plan(study: Study) -> None:
    """Print the trials, the predicted memory and the time, from a few timed steps of each kind."""
    console = Console()
    dims = study.protocol.dimensions()
    full = Trial(None, study.protocol.full_learning_rates[0], 0)
    largest = Trial(dims[-1], study.protocol.learning_rates[0], study.protocol.seeds[0])
    baseline = len(study.protocol.full_learning_rates)
    runs = study.protocol.bound() - baseline
    with console.status("timing a few steps"):
        seconds = {trial: study.executor.predicted_seconds(trial) for trial in (full, largest)}
    table = Table(title=f"{study.model_name} on {study.task.name}: D = {study.D:,}")
    for header in ("runs", "at most", "seconds each", "memory, GB"):
        table.add_column(header, justify="right")
    for name, count, trial in (("full fine-tuning", baseline, full), ("subspace", runs, largest)):
        memory = study.executor.predicted_memory(trial.d).total / 1e9
        table.add_row(name, f"{count:,}", f"{seconds[trial]:.0f}", f"{memory:.2f}")
    console.print(table)
    total = baseline * seconds[full] + runs * seconds[largest]
    console.print(f"d: {_listed(dims)}")
    console.print(f"learning rates: {', '.join(f'{x:g}' for x in study.protocol.learning_rates)}")
    console.print(f"seeds: {', '.join(map(str, study.protocol.seeds))}")
    console.print(f"time: at most {total / 60:.0f} minutes on {study.executor.device}")


def _listed(dims: tuple[int, ...]) -> str:
    if len(dims) <= 12:
        return ", ".join(f"{d:,}" for d in dims)
    first, last = (", ".join(f"{d:,}" for d in part) for part in (dims[:3], dims[-2:]))
    return f"{first}, ... {last} ({len(dims)} values)"
