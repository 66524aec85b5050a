"""Trials on a Ray cluster: one task of Ray Core each.

The weights and the tokenized texts are put into Ray's object store once and read once by each
worker process, so nodes need neither the model nor the data on their disks. Ray is imported when
an executor is made: it is an extra, `d90[ray]`.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import cache
from queue import Empty, SimpleQueue
from threading import Event, Lock, Thread
from time import monotonic
from typing import Any, cast

import torch

from d90.errors import D90Error, single_line
from d90.executors.base import (
    ATTEMPTS,
    Cancelled,
    OnProgress,
    study_ended,
    throttle,
    worker_died,
)
from d90.executors.runner import TrialRunner
from d90.search.trial import Trial, TrialResult
from d90.training import Progress

SECONDS = 0.2
"""How often the driver looks whether a new trial is to be watched, and a worker whether its trial
is cancelled."""

UNLIMITED = 100_000
"""Trials that Ray is given at once, where no number is asked for: it keeps those that wait."""


class RayExecutor:
    """An executor of a Ray cluster, or of one that is started here for as long as it is needed.

    A trial whose worker or node dies starts again elsewhere, three times at most.

    Args:
        trainer: what runs a trial, loaded in this process.
        workers: trials at once; None for as many as the cluster has room for.
        address: of a cluster, as `ray.init` takes it (`auto`, `host:port`, `ray://host:port`). None
            for the one that RAY_ADDRESS names, or for a new one on this machine.
        cpus_per_trial: cores that a trial takes, and its threads; below 1 it has one thread.
        gpus_per_trial: GPUs that a trial takes; a part of one lets trials share it.

    Raises:
        D90Error: ray is not installed, the cluster cannot be reached, or no node of it has room.
    """

    def __init__(
        self,
        runner: TrialRunner,
        workers: int | None = None,
        *,
        address: str | None = None,
        cpus_per_trial: float = 1,
        gpus_per_trial: float = 0,
    ) -> None:
        self.workers = workers or UNLIMITED
        self._cpus, self._gpus = cpus_per_trial, gpus_per_trial
        self._runner = runner
        self._is_ours = _connect(address)
        self._seen, self._slots = -math.inf, 0
        if self.slots == 0:
            self._leave()
            raise D90Error(
                f"no node of the Ray cluster has {cpus_per_trial:g} CPU and {gpus_per_trial:g} GPU "
                "for a trial: lower --cpus-per-trial or --gpus-per-trial, or add nodes."
            )
        self._calls: dict[Trial, _Call] = {}
        self._lock = Lock()
        self._over = Event()
        self._watch = Thread(target=self._watch_calls, name="d90-ray", daemon=True)

    @property
    def slots(self) -> int:
        """How many trials have room on the nodes there are, looked up every ten seconds."""
        if monotonic() > self._seen + 10:
            self._slots, self._seen = _slots(self._cpus, self._gpus), monotonic()
        return min(self._slots, self.workers)

    def __enter__(self) -> RayExecutor:
        import ray

        self._shared = ray.put(self._runner)
        self._watch.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._watch.join()
        for call in [*self._calls.values()]:
            call.end()
            call.future.set_exception(study_ended())
        self._leave()

    def submit(self, trial: Trial, on_progress: OnProgress) -> Future[TrialResult]:
        """Give the trial to Ray, in `Executor`'s terms."""
        call = _Call(trial, on_progress, Future(), self._start(trial), started=monotonic())
        with self._lock:
            self._calls[trial] = call
        return call.future

    def cancel(self, trial: Trial) -> None:
        """End the trial at its next update, in `Executor`'s terms."""
        with self._lock:
            call = self._calls.pop(trial, None)
        if call is not None:
            call.end()

    def _start(self, trial: Trial) -> Any:
        task = _task().options(num_cpus=self._cpus, num_gpus=self._gpus)
        # In a list, a reference is handed on and not read: a worker reads it once, not every time.
        return task.remote([self._shared], trial, max(int(self._cpus), 1))

    def _leave(self) -> None:
        import ray

        if self._is_ours:
            ray.shutdown()

    def _watch_calls(self) -> None:
        """In a thread: hand on what workers say, until the study is over."""
        import ray

        while not self._over.is_set():
            with self._lock:
                calls = {call.said: call for call in self._calls.values()}
            if not calls:
                self._over.wait(SECONDS)
                continue
            ready, _ = ray.wait([*calls], num_returns=1, timeout=SECONDS)
            for said in ready:
                self._hear(calls[said])

    def _hear(self, call: _Call) -> None:
        """One thing that a worker said, or its death."""
        import ray
        from ray.exceptions import RayError, RayTaskError

        try:
            said = ray.get(next(call.said))
        except RayTaskError as error:
            self._settle(call, error=D90Error(_said(error.cause)))
        except (RayError, StopIteration) as error:
            self._try_again(call, error)
        else:
            if isinstance(said, TrialResult):
                self._settle(call, result=replace(said, trial=call.trial))
            else:
                self._tell(call, cast(Progress, said))

    def _tell(self, call: _Call, progress: Progress) -> None:
        """Hand progress on; a callback that raises ends its trial, and not the watch."""
        try:
            call.on_progress(progress)
        except Exception as error:
            call.end()
            self._settle(call, error=error)

    def _try_again(self, call: _Call, error: Exception) -> None:
        if not self._is_current(call):
            return
        if call.attempt == ATTEMPTS:
            seconds = monotonic() - call.started
            self._settle(
                call, result=worker_died(call.trial, ATTEMPTS, _said(error), seconds=seconds)
            )
            return
        again = replace(call, said=self._start(call.trial), attempt=call.attempt + 1)
        with self._lock:
            if self._calls.get(call.trial) is call:
                self._calls[call.trial] = again

    def _settle(
        self, call: _Call, *, result: TrialResult | None = None, error: Exception | None = None
    ) -> None:
        if not self._is_current(call):
            return
        with self._lock:
            del self._calls[call.trial]
        if result is not None:
            call.future.set_result(result)
        else:
            call.future.set_exception(error)

    def _is_current(self, call: _Call) -> bool:
        return self._calls.get(call.trial) is call


@dataclass(frozen=True, eq=False)
class _Call:
    """A trial that Ray has.

    Attributes:
        said: Ray's generator of what its worker says.
        attempt: how often it was started.
        started: when, on the driver's clock.
    """

    trial: Trial
    on_progress: OnProgress
    future: Future[TrialResult]
    said: Any
    attempt: int = 1
    started: float = 0.0

    def end(self) -> None:
        import ray

        ray.cancel(self.said)


def _connect(address: str | None) -> bool:
    """Connect to the cluster; whether that was done here, and is to be undone.

    Raises:
        D90Error: ray is not installed, or the cluster cannot be reached.
    """
    try:
        import ray
    except ImportError as error:
        raise D90Error(
            "the executor 'ray' needs the package ray: pip install 'd90[ray]'."
        ) from error
    if ray.is_initialized():
        return False
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    alone: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
    try:
        # Without copies of the workers' output: the driver's own display says it all.
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **alone)
    except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
        raise D90Error(
            f"cannot reach the Ray cluster at '{address}': {_said(error)}; start one with "
            "`ray start --head`, or leave --address out."
        ) from error
    return True


def _slots(cpus: float, gpus: float) -> int:
    """How many trials have room on the nodes of the cluster."""
    import ray

    def room(resources: dict[str, float]) -> int:
        wanted = {"CPU": cpus, "GPU": gpus}
        shares = [resources.get(name, 0) / need for name, need in wanted.items() if need > 0]
        return int(min(shares)) if shares else 0

    return sum(room(node["Resources"]) for node in ray.nodes() if node["Alive"])


@cache
def _task() -> Any:
    """The task that runs a trial. What is retried is decided by the driver, not by Ray: a second
    attempt says other things than the first, and Ray would skip as many as were heard before."""
    import ray

    return ray.remote(max_retries=0, num_returns="streaming")(_run)


_runners: dict[str, TrialRunner] = {}
"""What this worker has loaded, by the reference to it."""


def _run(shared: list[Any], trial: Trial, threads: int) -> Iterator[Progress | TrialResult]:
    """What a worker does: its progress, then the record."""
    import ray

    name = shared[0].hex()
    if name not in _runners:
        _runners.clear()  # One model at a time.
        _runners[name] = ray.get(shared[0])
    said: SimpleQueue[Progress | TrialResult | Exception] = SimpleQueue()
    is_cancelled = Event()

    def tell(progress: Progress) -> None:
        if is_cancelled.is_set():
            raise Cancelled
        said.put(progress)

    def train() -> None:
        torch.set_num_threads(threads)  # Of this thread: OpenMP keeps one number for each.
        try:
            said.put(_runners[name].run(trial, throttle(tell)))
        except Cancelled:
            pass
        except Exception as error:
            said.put(error)

    thread = Thread(target=train, name="d90-trial", daemon=True)
    thread.start()
    try:
        yield from _until_record(said, thread)
    finally:
        is_cancelled.set()
        thread.join()


def _until_record(
    said: SimpleQueue[Progress | TrialResult | Exception], thread: Thread
) -> Iterator[Progress | TrialResult]:
    while True:
        try:
            # Ray interrupts a cancelled task between two steps of Python, not in a wait.
            what = said.get(timeout=SECONDS)
        except Empty:
            if not thread.is_alive() and said.empty():
                return
            continue
        if isinstance(what, Exception):
            raise what
        yield what
        if isinstance(what, TrialResult):
            return


def _said(error: BaseException) -> str:
    return single_line(error).rstrip(".")
