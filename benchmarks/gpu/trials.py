"""Part 13: trials: how long they take, out of memory, and several processes on one GPU."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

import torch

from benchmarks.gpu.part import Result, Setup, Value, check
from benchmarks.gpu.workloads import prepared, training
from benchmarks.resident import MB
from d90.executors import ProcessExecutor, TrialRunner
from d90.search.trial import Trial, TrialResult
from d90.training import Progress, TrainConfig

TOLERANCE = 0.25
"""Relative error that an estimated duration may have."""

SPARE = 200 * MB
"""Free bytes of the GPU with which a trial has to run out of memory."""

PROCESSES = (8, 4, 2, 1)


def run(setup: Setup) -> Iterator[Result]:
    """One model and task for all checks."""
    config = TrainConfig(
        max_steps=setup.size(100, 4), batch_size=setup.size(32, 8), precision="bf16"
    )
    with training(), prepared(setup) as (model, task):
        runner = TrialRunner(model, task, config, max_length=setup.size(128, 16))
        within = f"within {TOLERANCE:.0%}"
        for name, trial in (("full", Trial(None, 1e-4)), ("DID", _trial(setup, 0))):
            yield check(f"{name}: seconds", within, partial(_seconds, setup, runner, trial))
        yield check("out of memory", "failed, then ok", partial(_out_of_memory, setup, runner))
        yield from _together(setup, runner)


def _trial(setup: Setup, seed: int) -> Trial:
    return Trial(setup.size(1_000, 64), 0.008, seed)


def _seconds(setup: Setup, runner: TrialRunner, trial: Trial) -> tuple[bool | None, Value]:
    """Estimated and real seconds, once everything is compiled."""
    runner.estimate_seconds(trial)
    estimated = runner.estimate_seconds(trial)
    real = runner.run(trial).seconds
    error = estimated / real - 1
    ok = None if setup.is_rehearsal else abs(error) <= TOLERANCE
    return ok, {"estimated": estimated, "real": real, "error": error}


def _out_of_memory(setup: Setup, runner: TrialRunner) -> tuple[bool | None, Value]:
    """A trial beside another program that holds nearly all of the GPU, and one after it is gone."""
    filler = None
    if not setup.is_rehearsal:
        torch.cuda.empty_cache()
        free = torch.cuda.mem_get_info()[0]
        filler = torch.empty(free - SPARE, dtype=torch.uint8, device=setup.device)
    beside = runner.run(_trial(setup, 1))
    del filler
    if not setup.is_rehearsal:
        torch.cuda.empty_cache()
    after = runner.run(_trial(setup, 1))
    found = {"beside": beside.status, "message": beside.message, "after": after.status}
    ok = beside.status == "failed" and after.status in ("ok", "collapsed")
    return None if setup.is_rehearsal else ok, found


def _together(setup: Setup, runner: TrialRunner) -> Iterator[Result]:
    """Trials a minute with 8, 4, 2 and 1 at once, by the same processes."""
    numbers = setup.size(PROCESSES, (2, 1))
    with ProcessExecutor(runner, numbers[0]) as executor:
        first = _round(setup, executor, numbers[0])  # Starts every process.
        yield Result("processes: start", {"number": numbers[0], "seconds": first[0]})
        for number in numbers:
            seconds, results = _round(setup, executor, number)
            figures = {"trials a minute": 60 * number / seconds, "seconds": seconds}
            if not setup.is_rehearsal:
                free, total = torch.cuda.mem_get_info()
                figures["used GB"] = (total - free) / 1e9
            ok = all(result.status in ("ok", "collapsed") for result in results)
            yield Result(f"processes: {number} at once", figures, ok, "every trial trains")


def _round(setup: Setup, executor: ProcessExecutor, number: int) -> tuple[float, list[TrialResult]]:
    """Seconds of so many trials at once, and their results."""
    began = time.perf_counter()
    futures = [executor.submit(_trial(setup, seed), _ignore) for seed in range(number)]
    results = [future.result() for future in futures]
    return time.perf_counter() - began, results


def _ignore(progress: Progress) -> None:
    pass
