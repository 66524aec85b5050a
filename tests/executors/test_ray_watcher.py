"""The Ray executor with a fake `ray` module, above all the thread that watches the workers."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from queue import Queue
from threading import Event, Thread
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import pytest

from d90.errors import D90Error
from d90.executors import RayExecutor, TrialRunner
from d90.executors import ray as module
from d90.search.trial import Trial, TrialResult
from d90.training import Progress

FIRST, SECOND = Trial(10, 0.01), Trial(20, 0.01)


class Stream:
    """The messages of one worker, as Ray's generator hands them out."""

    def __init__(self) -> None:
        self.messages: Queue[Any] = Queue()
        self.is_cancelled = False

    def __next__(self) -> Any:
        return self.messages.get_nowait()


class FakeRay(ModuleType):
    """As much of Ray as the executor uses once it is connected."""

    def __init__(self) -> None:
        super().__init__("ray")
        self.streams: dict[Trial, Stream] = {}
        self.error: Exception | None = None

    def put(self, value: object) -> object:
        return value

    def get(self, value: object) -> object:
        return value

    def wait(self, streams: list[Stream], **_: object) -> tuple[list[Stream], list[Stream]]:
        if self.error is not None:
            raise self.error
        ready = [stream for stream in streams if not stream.messages.empty()]
        return ready[:1], []

    def cancel(self, stream: Stream) -> None:
        stream.is_cancelled = True

    def start(self, shared: object, trial: Trial, threads: int) -> Stream:
        self.streams[trial] = Stream()
        return self.streams[trial]


@pytest.fixture
def fake_ray(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    fake, errors = FakeRay(), ModuleType("ray.exceptions")
    vars(errors).update(
        RayError=type("RayError", (Exception,), {}),
        RayTaskError=type("RayTaskError", (Exception,), {}),
    )
    monkeypatch.setitem(sys.modules, "ray", fake)
    monkeypatch.setitem(sys.modules, "ray.exceptions", errors)
    monkeypatch.setattr(module, "_connect", lambda address: False)
    monkeypatch.setattr(module, "_resources", lambda: [{"CPU": 2}])
    task = SimpleNamespace(options=lambda **_: SimpleNamespace(remote=fake.start))
    monkeypatch.setattr(module, "_task", lambda: task)
    return fake


@pytest.fixture
def executor(fake_ray: FakeRay) -> Iterator[RayExecutor]:
    with RayExecutor(cast(TrialRunner, None)) as entered:
        yield entered


def ignore(_: Progress) -> None:
    pass


class CancelDuringLookup(dict[Trial, Any]):
    """Cancels the first trial from another thread between a look-up of it and what follows."""

    def __init__(self, executor: RayExecutor) -> None:
        super().__init__()
        self.executor, self.cancelling = executor, Event()

    def get(self, key: Trial, default: Any = None) -> Any:
        call = super().get(key, default)
        if key == FIRST and not self.cancelling.is_set():
            self.cancelling.set()
            thread = Thread(target=self.executor.cancel, args=(FIRST,))
            thread.start()
            thread.join(0.5)  # It cannot end while the look-up and what follows hold the lock.
        return call


def test_a_trial_cancelled_as_it_ends_does_not_stop_the_others(
    fake_ray: FakeRay, executor: RayExecutor
) -> None:
    executor._calls = calls = CancelDuringLookup(executor)
    executor.submit(FIRST, ignore)
    second = executor.submit(SECOND, ignore)
    fake_ray.streams[FIRST].messages.put(TrialResult(FIRST, "ok", metric=0.5))
    assert calls.cancelling.wait(10)
    fake_ray.streams[SECOND].messages.put(TrialResult(SECOND, "ok", metric=0.7))
    assert second.result(10).metric == 0.7
    assert executor._watcher.is_alive()


def test_a_watcher_that_fails_fails_every_trial(fake_ray: FakeRay, executor: RayExecutor) -> None:
    fake_ray.error = ConnectionError("the head node is gone")
    with pytest.raises(D90Error, match=r"ConnectionError: the head node is gone\.$"):
        executor.submit(FIRST, ignore).result(10)
    with pytest.raises(D90Error, match="the head node is gone"):
        executor.submit(SECOND, ignore).result(10)


def test_a_trial_cancelled_before_its_worker_dies_is_not_restarted(
    fake_ray: FakeRay, executor: RayExecutor
) -> None:
    executor.submit(FIRST, ignore)
    call, stream = executor._calls[FIRST], fake_ray.streams[FIRST]
    executor.cancel(FIRST)
    executor._retry(call, RuntimeError("killed"))
    assert stream.is_cancelled
    assert fake_ray.streams[FIRST] is stream and not executor._calls


@pytest.mark.parametrize(
    ("nodes", "gpus", "slots"),
    [
        ([{"CPU": 2}, {"CPU": 8, "GPU": 4}], None, 4),
        ([{"CPU": 2}, {"CPU": 8}], None, 10),
        ([{"CPU": 2}, {"CPU": 8, "GPU": 4}], 0, 10),
        ([{"CPU": 2}, {"CPU": 8, "GPU": 4}], 0.5, 8),
    ],
)
def test_a_trial_takes_a_gpu_where_the_cluster_has_one(
    fake_ray: FakeRay,
    monkeypatch: pytest.MonkeyPatch,
    nodes: list[dict[str, float]],
    gpus: float | None,
    slots: int,
) -> None:
    asked: list[float] = []

    def options(num_cpus: float, num_gpus: float) -> SimpleNamespace:
        asked.append(num_gpus)
        return SimpleNamespace(remote=fake_ray.start)

    monkeypatch.setattr(module, "_resources", lambda: nodes)
    monkeypatch.setattr(module, "_task", lambda: SimpleNamespace(options=options))
    with RayExecutor(cast(TrialRunner, None), gpus_per_trial=gpus) as executor:
        assert executor.slots == slots
        executor.submit(FIRST, ignore)
    assert asked == [gpus if gpus is not None else float(slots == 4)]
