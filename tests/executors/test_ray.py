"""Ray gives the results of one process even if workers die. Skipped if ray is not installed."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import psutil
import pytest
from tests.helpers.executors import (
    CONFIG,
    ENDLESS,
    TRIALS,
    MakeRunner,
    ignore_progress,
    with_command,
    without_time,
)

from d90.errors import D90Error
from d90.executors import RayExecutor, SerialExecutor, make_executor
from d90.executors import ray as module
from d90.search.trial import Trial, TrialResult
from d90.training import Progress

ray = pytest.importorskip("ray", reason="ray is not installed")

pytestmark = pytest.mark.slow

PATIENCE = 180
"""Seconds until a test gives up. A new worker imports torch, which takes long on a busy machine."""


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """Two workers on this machine, for all tests: an executor uses the cluster that it finds."""
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def busy() -> list[psutil.Process]:
    """Worker processes of Ray that run a trial: a task's name is that of its process."""
    return with_command(psutil.Process().children(recursive=True), "ray::_run")


def until(condition: Callable[[], Any], seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_cluster_gives_the_results_of_one_process(runner: MakeRunner) -> None:
    reports: list[Progress] = []
    with SerialExecutor(runner()) as serial, RayExecutor(runner()) as cluster:
        assert cluster.slots == 2
        expected = [
            without_time(serial.submit(trial, ignore_progress).result()) for trial in TRIALS
        ]
        futures = [cluster.submit(trial, reports.append) for trial in TRIALS]
        results = [without_time(future.result()) for future in futures]
    assert results == expected
    assert max(progress.step for progress in reports) == 24


def test_a_worker_that_dies_is_replaced(runner: MakeRunner) -> None:
    config = replace(CONFIG, epochs=20)  # Long enough to be killed while training.
    expected = without_time(
        SerialExecutor(runner(config)).submit(TRIALS[1], ignore_progress).result()
    )
    killed: list[int] = []

    def kill_once(progress: Progress) -> None:
        for process in [] if killed else busy():
            killed.append(process.pid)
            os.kill(process.pid, signal.SIGKILL)

    with RayExecutor(runner(config)) as cluster:
        assert without_time(cluster.submit(TRIALS[1], kill_once).result(PATIENCE)) == expected
    assert len(killed) == 1


def test_a_trial_that_kills_every_worker_has_failed(
    runner: MakeRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ATTEMPTS", 2)

    def kill(progress: Progress) -> None:
        for process in busy():
            process.kill()

    with RayExecutor(runner(ENDLESS)) as cluster:
        result = cluster.submit(TRIALS[1], kill).result(2 * PATIENCE)
    assert (result.status, result.metric) == ("failed", None)
    assert result.message.startswith("its worker died 2 times: ")


def test_a_callback_that_raises_ends_its_trial_only(runner: MakeRunner) -> None:
    def broken(progress: Progress) -> None:
        raise RuntimeError("the display is gone")

    with RayExecutor(runner()) as cluster:
        first, second = (
            cluster.submit(TRIALS[1], broken),
            cluster.submit(TRIALS[2], ignore_progress),
        )
        assert second.result(PATIENCE).status == "ok"
        with pytest.raises(RuntimeError, match="the display is gone"):
            first.result(PATIENCE)


def test_a_trial_that_raises_is_not_tried_again(runner: MakeRunner) -> None:
    too_large = Trial(10**9, 0.01)
    with RayExecutor(runner()) as cluster, pytest.raises(D90Error, match="larger than D"):
        cluster.submit(too_large, ignore_progress).result(PATIENCE)


def test_a_cancelled_trial_ends_and_its_worker_is_free(
    runner: MakeRunner,
) -> None:
    with RayExecutor(runner(ENDLESS)) as cluster:
        started = threading.Event()
        cluster.submit(TRIALS[1], lambda _: started.set())
        assert started.wait(PATIENCE)
        workers = {process.pid for process in busy()}
        assert len(workers) == 1
        cluster.cancel(TRIALS[1])
        until(lambda: not busy())
        assert all(psutil.pid_exists(pid) for pid in workers)


def test_leaving_ends_what_still_runs(runner: MakeRunner) -> None:
    with RayExecutor(runner(ENDLESS)) as cluster:
        started = threading.Event()
        future: Future[TrialResult] = cluster.submit(TRIALS[1], lambda _: started.set())
        assert started.wait(PATIENCE)
    assert isinstance(future.exception(5), D90Error)
    until(lambda: not busy())


def test_what_it_cannot_have(runner: MakeRunner) -> None:
    assert make_executor("ray", runner(), workers=1).slots == 1
    assert make_executor("ray", runner(), cpus_per_trial=0.5).slots == 4
    refused: list[tuple[dict[str, Any], str]] = [
        ({"cpus_per_trial": 3}, "no node .* has 3 CPU and 0 GPU for a trial"),
        ({"gpus_per_trial": 1}, "lower cpus_per_trial or gpus_per_trial"),
        ({"gpus_per_trial": 1.5}, "gpus_per_trial 1.5: expected a fraction of 1"),
        ({"cpus_per_trial": -1}, "cpus_per_trial -1: expected"),
    ]
    for options, message in refused:
        with pytest.raises(D90Error, match=message):
            make_executor("ray", runner(), **options)
