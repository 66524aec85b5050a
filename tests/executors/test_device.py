"""GPUs: one for each worker; one that a process can no longer use does not spoil the study."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from multiprocessing import Pipe
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar, cast

import pytest
import torch
from tests.helpers.executors import CONFIG, MakeRunner, ignore_progress, without_time

import d90
from d90.errors import D90Error
from d90.executors import ProcessExecutor, TrialRunner, base, processes, ray
from d90.executors import runner as runner_module
from d90.executors.device import VISIBLE, DeviceLostError, is_lost, only_gpu, visible_gpus
from d90.search.protocols import ListProtocol
from d90.search.summary import Summary
from d90.search.trial import Trial, TrialResult

TRIAL = Trial(20, 0.01)
CUDA = torch.device("cuda")
ILLEGAL = "CUDA error: an illegal memory access was encountered"


class Exited(SystemExit):
    """Raised instead of leaving the process."""


class BrokenRunner:
    """Of a process that can no longer use its GPU."""

    def __init__(self, **_: Any) -> None:
        pass

    def run(self, *_: Any) -> TrialResult:
        raise DeviceLostError(ILLEGAL)


@pytest.fixture
def exit_codes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    codes: list[int] = []

    def leave(code: int) -> None:
        codes.append(code)
        raise Exited

    monkeypatch.setattr(os, "_exit", leave)
    return codes


def fail_to_synchronize(*_: object) -> None:
    raise RuntimeError(ILLEGAL)


def test_a_device_is_lost_when_it_cannot_be_synchronized(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "synchronize", fail_to_synchronize)
    assert is_lost(CUDA)
    assert not is_lost(torch.device("cpu"))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda *_: None)
    assert not is_lost(CUDA)


@pytest.mark.parametrize("lost", [True, False])
def test_a_trial_fails_alone_unless_it_lost_the_device(
    runner: MakeRunner, monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    def train(*_: object, **__: object) -> None:
        raise RuntimeError(f"{ILLEGAL}\nCUDA kernel errors might be asynchronously reported")

    one = runner()
    monkeypatch.setattr(one, "device", CUDA)
    monkeypatch.setattr(one, "_prepared", lambda _: nullcontext(one.model))
    monkeypatch.setattr(runner_module, "train", train)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "synchronize", fail_to_synchronize if lost else lambda *_: None)
    if not lost:
        assert one.run(TRIAL).status == "failed"
        return
    with pytest.raises(DeviceLostError, match=f"^RuntimeError: {ILLEGAL}.*Rerun the command"):
        one.run(TRIAL)


def test_a_study_without_its_device_ends_and_is_resumed(
    ready_folder: Path, toy_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(store: str) -> Summary:
        return d90.measure(
            str(ready_folder),
            toy_folder,
            store=tmp_path / store,
            protocol=ListProtocol(
                dims=(10, 50), learning_rates=(0.01,), baseline_learning_rates=(0.01,), seeds=(0,)
            ),
            training=CONFIG,
            max_length=16,
        )

    expected = measured("expected.db")
    train, calls = runner_module.train, []

    def lose_device(*args: Any, **options: Any) -> TrialResult:
        calls.append(options["d"])
        if len(calls) == 2:
            raise RuntimeError(ILLEGAL)
        return train(*args, **options)

    monkeypatch.setattr(runner_module, "train", lose_device)
    monkeypatch.setattr(base, "is_lost", lambda _: True)
    with pytest.raises(DeviceLostError):
        measured("resumed.db")
    assert len(calls) == 2
    resumed = measured("resumed.db")
    assert len(calls) == 4
    assert calls[2] == calls[1]
    assert [*map(without_time, resumed.trials)] == [*map(without_time, expected.trials)]


def test_a_worker_without_its_device_exits(
    monkeypatch: pytest.MonkeyPatch, exit_codes: list[int]
) -> None:
    monkeypatch.setattr(processes.signal, "signal", lambda *_: None)
    ours, theirs = Pipe()
    ours.send(TRIAL)
    with pytest.raises(Exited):
        processes._serve(theirs, cast(Any, BrokenRunner), torch.get_num_threads())
    message = ours.recv()
    assert isinstance(message, DeviceLostError)
    assert message.reason == ILLEGAL
    assert exit_codes == [1]


class FakeWorker:
    """A worker whose first processes lose their GPU."""

    losses = 0
    gpus: ClassVar[list[str | None]] = []

    def __init__(self, factory: object, threads: int, gpu: str | None) -> None:
        FakeWorker.gpus.append(gpu)

    def run(self, trial: Trial, *_: object) -> TrialResult:
        if FakeWorker.losses == 0:
            return TrialResult(trial, "ok", metric=0.5)
        FakeWorker.losses -= 1
        raise DeviceLostError(ILLEGAL)

    def kill(self) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("losses", "status", "message"),
    [(1, "ok", ""), (3, "failed", f"its worker died 3 times: {ILLEGAL}")],
)
def test_a_worker_without_its_device_is_replaced(
    runner: MakeRunner,
    monkeypatch: pytest.MonkeyPatch,
    losses: int,
    status: str,
    message: str,
) -> None:
    monkeypatch.setattr(processes, "_Worker", FakeWorker)
    monkeypatch.setattr(FakeWorker, "losses", losses)
    with ProcessExecutor(runner(), 1) as one:
        result = one.submit(TRIAL, ignore_progress).result(10)
        assert (result.status, result.message) == (status, message)
        assert one.submit(Trial(30, 0.01), ignore_progress).result(10).status == "ok"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_ray_worker_without_its_device_exits(
    monkeypatch: pytest.MonkeyPatch, exit_codes: list[int]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", ModuleType("ray"))
    monkeypatch.setattr(ray, "_runners", {"1": cast(TrialRunner, BrokenRunner())})
    reference = SimpleNamespace(hex=lambda: "1")
    assert [*ray._run([reference], TRIAL, torch.get_num_threads())] == []
    assert exit_codes == [1]


@pytest.mark.parametrize(
    ("variable", "count", "names"),
    [
        (None, 2, ["0", "1"]),
        ("2,3", 2, ["2", "3"]),
        ("GPU-8932f937, MIG-4b1c", 2, ["GPU-8932f937", "MIG-4b1c"]),
        ("1,0,-1,2", 2, ["1", "0"]),  # CUDA stops at the first name that it does not know.
        ("", 0, []),
    ],
)
def test_names_of_the_visible_gpus(
    monkeypatch: pytest.MonkeyPatch, variable: str | None, count: int, names: list[str]
) -> None:
    set_variable(monkeypatch, variable)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    assert visible_gpus() == names


def set_variable(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    if value is None:
        monkeypatch.delenv(VISIBLE, raising=False)
    else:
        monkeypatch.setenv(VISIBLE, value)


@pytest.mark.parametrize("before", [None, "0,1"])
def test_the_variable_is_set_while_a_process_starts(
    monkeypatch: pytest.MonkeyPatch, before: str | None
) -> None:
    set_variable(monkeypatch, before)
    with only_gpu("3"):
        assert os.environ[VISIBLE] == "3"
    assert os.environ.get(VISIBLE) == before
    with only_gpu(None):
        assert os.environ.get(VISIBLE) == before


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Gives the machine 16 cores and so many GPUs."""

    def give(count: int) -> None:
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: {*range(16)})
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.delenv(VISIBLE, raising=False)
        monkeypatch.setattr(FakeWorker, "gpus", [])
        monkeypatch.setattr(processes, "_Worker", FakeWorker)
        monkeypatch.setattr(processes, "available_memory", lambda _: 2**40)

    return give


@pytest.mark.parametrize(("count", "workers"), [(1, 4), (2, 8), (8, 16)])
def test_four_workers_for_each_gpu(
    runner: MakeRunner,
    gpus: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
    count: int,
    workers: int,
) -> None:
    one = runner()
    gpus(count)
    assert ProcessExecutor(one).workers == 16
    monkeypatch.setattr(one, "device", CUDA)
    assert ProcessExecutor(one).workers == workers
    assert ProcessExecutor(one, 3).workers == 3


@pytest.mark.parametrize(
    ("count", "device", "seen"),
    [(2, "cuda", ["0", "1", "0", "1"]), (1, "cuda", [None] * 4), (2, "cpu", [None] * 4)],
)
def test_each_worker_sees_one_gpu_also_after_it_was_replaced(
    runner: MakeRunner,
    gpus: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
    count: int,
    device: str,
    seen: list[str | None],
) -> None:
    one = runner()
    gpus(count)
    monkeypatch.setattr(one, "device", torch.device(device))
    with ProcessExecutor(one, 4) as executor:
        for d in range(20, 24):
            executor.submit(Trial(d, 0.01), ignore_progress).result(10)
        assert FakeWorker.gpus == seen
        monkeypatch.setattr(FakeWorker, "losses", 1)
        executor.submit(Trial(24, 0.01), ignore_progress).result(10)
        assert FakeWorker.gpus == [*seen, seen[0]]


def test_a_worker_starts_with_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str | None] = []
    process = SimpleNamespace(start=lambda: started.append(os.environ.get(VISIBLE)))
    end = SimpleNamespace(close=lambda: None)
    context = SimpleNamespace(Pipe=lambda: (end, end), Process=lambda **_: process)
    monkeypatch.setattr(processes, "get_context", lambda _: context)
    monkeypatch.setenv(VISIBLE, "4,5")
    processes._Worker(cast(Any, dict), 1, "5")
    processes._Worker(cast(Any, dict), 1, None)
    assert started == ["5", "4,5"]


def test_the_memory_of_each_gpu_is_checked_with_its_contexts(
    runner: MakeRunner, gpus: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = runner()
    gpus(2)
    monkeypatch.setattr(one, "device", CUDA)
    each = one.estimate_memory(None).total + 500_000_000
    free = {0: 2 * each, 1: each}
    monkeypatch.setattr(processes, "available_memory", lambda device: free[device.index])
    assert ProcessExecutor(one, 3).workers == 3
    with pytest.raises(D90Error, match=r"^2 trials of .* free on cuda:1: lower workers"):
        ProcessExecutor(one, 4)
    free[0] -= 1
    with pytest.raises(D90Error, match=r"^2 trials of .* free on cuda:0: lower workers"):
        ProcessExecutor(one, 3)
