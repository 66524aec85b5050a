"""Where trials run: in this process, in several on this machine, or on a Ray cluster."""

from __future__ import annotations

from d90.errors import D90Error, unknown_name
from d90.executors.base import Executor, Runner
from d90.executors.processes import ProcessExecutor
from d90.executors.ray import RayExecutor
from d90.executors.runner import TrialRunner
from d90.executors.serial import SerialExecutor

__all__ = [
    "EXECUTORS",
    "Executor",
    "ProcessExecutor",
    "RayExecutor",
    "Runner",
    "SerialExecutor",
    "TrialRunner",
    "check_execution",
    "make_executor",
]

EXECUTORS = ("serial", "processes", "ray")

MAX_WORKERS = 2**31 - 1
"""Of processes, or of cores and GPUs of a trial: what memory allows is checked later."""


def make_executor(
    name: str,
    runner: Runner,
    *,
    workers: int | None = None,
    address: str | None = None,
    cpus_per_trial: float = 1,
    gpus_per_trial: float | None = None,
) -> Executor:
    """The executor with this name.

    Args:
        name: one of `EXECUTORS`.
        runner: runs a trial; loaded in this process.
        workers: number of concurrent trials. For `processes`, None means one per core, but at most
            4 per GPU; for `ray`, as many as the cluster has room for.
        address, cpus_per_trial, gpus_per_trial: for `ray` only: see `RayExecutor`.

    Raises:
        D90Error: the name is unknown; an argument is out of its range or not for this executor.
    """
    check_execution(
        name,
        world_size=runner.process_group.world_size,
        workers=workers,
        address=address,
        cpus_per_trial=cpus_per_trial,
        gpus_per_trial=gpus_per_trial,
    )
    if name == "ray":
        return RayExecutor(
            runner,
            workers,
            address=address,
            cpus_per_trial=cpus_per_trial,
            gpus_per_trial=gpus_per_trial,
        )
    return ProcessExecutor(runner, workers) if name == "processes" else SerialExecutor(runner)


def check_execution(
    name: str,
    *,
    world_size: int = 1,
    workers: int | None = None,
    address: str | None = None,
    cpus_per_trial: float = 1,
    gpus_per_trial: float | None = None,
) -> None:
    """Check the arguments of `make_executor`, before anything is loaded.

    Raises:
        D90Error: as `make_executor`.
    """
    if name not in EXECUTORS:
        raise unknown_name("executor", name, EXECUTORS)
    if name != "serial" and world_size > 1:
        raise D90Error(
            f"executor '{name}': a launcher's processes run each trial together, which needs the "
            "executor 'serial': choose it, or start d90 without the launcher."
        )
    if workers is not None and not 1 <= workers <= MAX_WORKERS:
        raise D90Error(f"workers {workers}: expected at least 1 (and at most {MAX_WORKERS:,}).")
    if name == "ray":
        for option, amount in (
            ("cpus_per_trial", cpus_per_trial),
            ("gpus_per_trial", gpus_per_trial or 0),
        ):
            if not 0 <= amount <= MAX_WORKERS or (amount > 1 and amount != int(amount)):
                raise D90Error(f"{option} {amount:g}: expected a fraction of 1, or a whole number.")
        return
    if address is not None or cpus_per_trial != 1 or gpus_per_trial is not None:
        raise D90Error(
            f"executor '{name}' takes no address, cpus_per_trial or gpus_per_trial: choose 'ray'."
        )
    if name == "serial" and workers not in (None, 1):
        raise D90Error(
            f"workers {workers}: executor 'serial' runs one trial at a time: choose 'processes'."
        )
