"""ProcessExecutor: the results of one process, also when workers die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.helpers.executors import (
    ENDLESS,
    TRIALS,
    MakeRunner,
    ignore_progress,
    with_command,
    without_time,
)

import d90
from d90.errors import D90Error
from d90.executors import Executor, ProcessExecutor, SerialExecutor, make_executor
from d90.executors import processes as module
from d90.executors.base import Cancelled
from d90.search.protocols import ListProtocol
from d90.search.summary import Summary
from d90.training import Progress, TrainConfig

pytestmark = pytest.mark.slow


Workers = Callable[[], list[psutil.Process]]


@pytest.fixture
def workers() -> Workers:
    """Lists the workers that the test has started; processes of earlier tests are left out."""
    earlier = {*psutil.Process().children()}

    def started() -> list[psutil.Process]:
        processes = with_command(psutil.Process().children(), "spawn_main")
        return [process for process in processes if process not in earlier]

    return started


def test_two_processes_give_the_results_of_one(runner: MakeRunner, workers: Workers) -> None:
    reports: list[Progress] = []
    with SerialExecutor(runner()) as serial, ProcessExecutor(runner(), 2) as processes:
        expected = [
            without_time(serial.submit(trial, ignore_progress).result()) for trial in TRIALS
        ]
        futures = [processes.submit(trial, reports.append) for trial in TRIALS]
        results = [without_time(future.result()) for future in futures]
        assert len(workers()) == 2
    assert results == expected
    assert workers() == []
    assert max(progress.step for progress in reports) == 24


def test_a_worker_that_dies_is_replaced(runner: MakeRunner, workers: Workers) -> None:
    expected = without_time(SerialExecutor(runner()).submit(TRIALS[1], ignore_progress).result())
    with ProcessExecutor(runner(), 1) as one:
        killed: list[int] = []

        def kill_once(progress: Progress) -> None:
            if not killed:
                killed.extend(child.pid for child in workers())
                os.kill(killed[0], signal.SIGKILL)

        result = one.submit(TRIALS[1], kill_once).result()
        assert [child.pid for child in workers()] != killed
    assert without_time(result) == expected


def test_a_trial_that_kills_every_worker_has_failed(
    runner: MakeRunner, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ATTEMPTS", 2)

    def kill(progress: Progress) -> None:
        for child in workers():
            child.kill()

    with ProcessExecutor(runner(ENDLESS), 1) as one:
        result = one.submit(TRIALS[1], kill).result()
    assert (result.status, result.metric) == ("failed", None)
    assert result.message == "its worker died 2 times: too little memory?"


def test_a_cancelled_trial_ends_and_its_worker_is_free(
    runner: MakeRunner, workers: Workers
) -> None:
    with ProcessExecutor(runner(ENDLESS), 1) as one:
        started: list[Progress] = []
        cancelled = one.submit(TRIALS[1], started.append)
        waiting = one.submit(TRIALS[2], ignore_progress)
        while not started:
            time.sleep(0.05)
        before = workers()
        one.cancel(TRIALS[2])
        one.cancel(TRIALS[1])
        assert isinstance(cancelled.exception(20), Cancelled)
        assert waiting.cancelled()
        assert workers() == before


def test_leaving_ends_what_still_runs(runner: MakeRunner, workers: Workers) -> None:
    with ProcessExecutor(runner(ENDLESS), 1) as one:
        started: list[Progress] = []
        future = one.submit(TRIALS[1], started.append)
        while not started:
            time.sleep(0.05)
    assert workers() == []
    assert isinstance(future.exception(), D90Error)


SEARCH = ListProtocol(
    dims=(10, 50), learning_rates=(0.01,), baseline_learning_rates=(0.01, 0.02), seeds=(0, 1)
)


def measured(model: Path, task: Path, store: Path, **options: Any) -> Summary:
    return d90.measure(
        str(model),
        task,
        store=store,
        protocol=SEARCH,
        training=TrainConfig(max_steps=12, batch_size=8, precision="no"),
        max_length=16,
        head_seed=3,
        **options,
    )


def test_a_study_has_the_same_answer(ready_folder: Path, toy_folder: Path, tmp_path: Path) -> None:
    one = measured(ready_folder, toy_folder, tmp_path / "one.db")
    two = measured(
        ready_folder,
        toy_folder,
        tmp_path / "two.db",
        executor="processes",
        workers=2,
    )
    assert len(one.trials) == 8
    assert [*map(without_time, two.ordered_trials)] == [*map(without_time, one.ordered_trials)]
    assert (two.d90, two.status, two.interval) == (one.d90, one.status, one.interval)


DRIVER = """
import sys, d90
from d90.search.protocols import ListProtocol
from d90.training import TrainConfig
if __name__ == "__main__":
    d90.measure(sys.argv[1], sys.argv[2], store=sys.argv[3], protocol=ListProtocol(dims=(10, 50)),
        training=TrainConfig(max_steps=100_000, batch_size=8, precision="no"), max_length=16,
        executor="processes", workers=2)
"""


def test_workers_end_with_a_driver_that_was_killed(
    ready_folder: Path, toy_folder: Path, tmp_path: Path
) -> None:
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    driver = subprocess.Popen(
        [sys.executable, script, str(ready_folder), str(toy_folder), str(tmp_path / "d.db")]
    )
    workers: list[psutil.Process] = []
    while len(workers) < 2 or min(worker.cpu_times().user for worker in workers) < 3:
        assert driver.poll() is None
        time.sleep(0.2)
        workers = with_command(psutil.Process(driver.pid).children(), "spawn_main")
    driver.kill()
    driver.wait()
    _, alive = psutil.wait_procs(workers, timeout=20)
    for worker in alive:
        worker.kill()
    assert alive == []


def test_names_and_numbers(runner: MakeRunner) -> None:
    executors: list[Executor] = [make_executor(name, runner()) for name in ("serial", "processes")]
    assert [type(executor) for executor in executors] == [SerialExecutor, ProcessExecutor]
    assert [executor.workers for executor in executors] == [1, len(os.sched_getaffinity(0))]
    assert [executor.slots for executor in executors] == [
        executor.workers for executor in executors
    ]
    refused: list[tuple[str, dict[str, Any], str]] = [
        ("ray2", {}, "unknown executor 'ray2'"),
        ("processes", {"workers": 0}, "workers 0: expected at least 1"),
        ("serial", {"workers": 2}, "choose 'processes'"),
        ("processes", {"workers": 10**7}, "lower workers"),
        ("processes", {"address": "auto"}, "'processes' takes no address.*: choose 'ray'"),
        ("serial", {"gpus_per_trial": 1}, "'serial' takes no address.*: choose 'ray'"),
    ]
    for name, options, message in refused:
        with pytest.raises(D90Error, match=message):
            make_executor(name, runner(), **options)
