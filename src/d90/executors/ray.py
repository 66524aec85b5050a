"""Trials on a Ray cluster: one Ray Core task per trial.

The runner, with its weights and tokenized examples, is put into Ray's object store once and read
once by each worker process, so nodes need neither the model nor the data on their disks. Ray is
imported when an executor is created: it is an extra, `d90[ray]`.
"""

from __future__ import annotations

import logging
import math
import os
import socket
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
    Runner,
    study_ended,
    throttle,
    worker_died,
)
from d90.executors.device import DeviceLostError
from d90.search.trial import Trial, TrialResult
from d90.training import Progress

_log = logging.getLogger(__name__)

CONNECT_SECONDS = 10.0
"""How long a cluster may take to accept a connection, and then to answer."""

_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""How a client of gRPC begins, with empty settings (RFC 9113, Section 3.4)."""

POLL_SECONDS = 0.2
"""How often the driver checks for newly submitted trials, and a worker for cancellation."""

UNLIMITED = 100_000
"""Trials submitted to Ray at once when `workers` is None: Ray queues those that have to wait."""


class RayExecutor:
    """An executor on a Ray cluster, or on one that is started here and shut down at the end.

    A trial whose worker or node dies is restarted elsewhere, three attempts in all. A worker that
    can no longer use its GPU exits.

    Args:
        runner: runs a trial; loaded in this process.
        workers: maximum number of concurrent trials; None for as many as the cluster has room for.
        address: of a cluster, as `ray.init` takes it (`auto`, `host:port`, `ray://host:port`). None
            for the one that RAY_ADDRESS names, or for a new one on this machine.
        cpus_per_trial: cores per trial, and its number of threads; below 1 it has one thread.
        gpus_per_trial: GPUs per trial; with a fraction, trials share a GPU. None for one if the
            cluster has GPUs, as the other executors use the GPU of their machine, else 0.

    Raises:
        D90Error: ray is not installed, the cluster cannot be reached, or no node of it has room.
    """

    def __init__(
        self,
        runner: Runner,
        workers: int | None = None,
        *,
        address: str | None = None,
        cpus_per_trial: float = 1,
        gpus_per_trial: float | None = None,
    ) -> None:
        self.workers = workers or UNLIMITED
        self._runner = runner
        self._owns_cluster = _connect(address)
        self._cpus = cpus_per_trial
        # Ray hides the GPUs of a node from a task that asks for none.
        self._gpus = float(_has_gpus()) if gpus_per_trial is None else gpus_per_trial
        self._slots_checked, self._slots = -math.inf, 0
        if self.slots == 0:
            self._disconnect()
            raise D90Error(
                f"no node of the Ray cluster has {self._cpus:g} CPU and {self._gpus:g} GPU "
                "for a trial: lower cpus_per_trial or gpus_per_trial, or add nodes."
            )
        self._calls: dict[Trial, _Call] = {}
        self._failure: D90Error | None = None
        self._lock = Lock()  # Guards `_calls` and `_failure`.
        self._stopped = Event()
        self._watcher = Thread(target=self._watch, name="d90-ray", daemon=True)

    @property
    def slots(self) -> int:
        """How many trials the nodes have room for now, looked up every ten seconds."""
        if monotonic() > self._slots_checked + 10:
            self._slots, self._slots_checked = _slots(self._cpus, self._gpus), monotonic()
        return min(self._slots, self.workers)

    def __enter__(self) -> RayExecutor:
        import ray

        self._runner_ref = ray.put(self._runner)
        self._watcher.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopped.set()
        self._watcher.join()
        for call in self._fail_all(study_ended()):
            call.cancel()
        self._disconnect()

    def submit(self, trial: Trial, on_progress: OnProgress) -> Future[TrialResult]:
        """Submit the trial to Ray; see `Executor.submit`."""
        call = _Call(trial, on_progress, Future(), self._start(trial), started=monotonic())
        with self._lock:
            failure = self._failure
            if failure is None:
                self._calls[trial] = call
        if failure is not None:
            call.future.set_exception(failure)
        return call.future

    def cancel(self, trial: Trial) -> None:
        """Stop the trial at its next optimizer step; see `Executor.cancel`."""
        with self._lock:
            call = self._calls.pop(trial, None)
        if call is not None:
            call.cancel()

    def _start(self, trial: Trial) -> Any:
        task = _task().options(num_cpus=self._cpus, num_gpus=self._gpus)
        # Inside a list, a reference is passed on, not resolved: a worker reads it only once.
        return task.remote([self._runner_ref], trial, max(int(self._cpus), 1))

    def _disconnect(self) -> None:
        import ray

        if self._owns_cluster:
            ray.shutdown()

    def _watch(self) -> None:
        """Thread: forward messages from the workers; if it fails, so does every pending trial."""
        try:
            while not self._stopped.is_set():
                self._forward_ready()
        except Exception as error:
            message = f"watching the Ray cluster failed: {type(error).__name__}: {_message(error)}."
            failure = D90Error(message)
            failure.__cause__ = error
            self._fail_all(failure)

    def _forward_ready(self) -> None:
        import ray

        with self._lock:
            calls = {call.stream: call for call in self._calls.values()}
        if not calls:
            self._stopped.wait(POLL_SECONDS)
            return
        ready, _ = ray.wait([*calls], num_returns=1, timeout=POLL_SECONDS)
        for stream in ready:
            self._handle_message(calls[stream])

    def _handle_message(self, call: _Call) -> None:
        """Handle one message from a worker, or its death."""
        import ray
        from ray.exceptions import RayError, RayTaskError

        try:
            message = ray.get(next(call.stream))
        except RayTaskError as error:
            self._settle(call, error=D90Error(_message(error.cause)))
        except (RayError, StopIteration) as error:
            self._retry(call, error)
        else:
            if isinstance(message, TrialResult):
                self._settle(call, result=replace(message, trial=call.trial))
            else:
                self._report_progress(call, cast(Progress, message))

    def _report_progress(self, call: _Call, progress: Progress) -> None:
        """Forward progress; a callback that raises ends its own trial only."""
        try:
            call.on_progress(progress)
        except Exception as error:
            call.cancel()
            self._settle(call, error=error)

    def _retry(self, call: _Call, error: Exception) -> None:
        if call.attempt == ATTEMPTS:
            seconds = monotonic() - call.started
            result = worker_died(call.trial, ATTEMPTS, _message(error), seconds=seconds)
            self._settle(call, result=result)
            return
        with self._lock:
            if self._calls.get(call.trial) is call:
                stream = self._start(call.trial)
                self._calls[call.trial] = replace(call, stream=stream, attempt=call.attempt + 1)

    def _settle(
        self, call: _Call, *, result: TrialResult | None = None, error: Exception | None = None
    ) -> None:
        """Complete the future of a call, unless the call was cancelled or restarted."""
        # Tested and removed under one lock: `cancel` may run at the same time.
        with self._lock:
            if self._calls.get(call.trial) is not call:
                return
            del self._calls[call.trial]
        if result is not None:
            call.future.set_result(result)
        else:
            call.future.set_exception(error)

    def _fail_all(self, error: D90Error) -> list[_Call]:
        """Fail every pending call, and those that are still to be submitted."""
        with self._lock:
            calls, self._failure = [*self._calls.values()], error
            self._calls.clear()
        for call in calls:
            call.future.set_exception(error)
        return calls


@dataclass(frozen=True, eq=False)
class _Call:
    """A trial submitted to Ray.

    Attributes:
        stream: Ray's generator of the worker's messages.
        attempt: how many times it has been started.
        started: time of the first start, on the driver's monotonic clock.
    """

    trial: Trial
    on_progress: OnProgress
    future: Future[TrialResult]
    stream: Any
    attempt: int = 1
    started: float = 0.0

    def cancel(self) -> None:
        import ray

        ray.cancel(self.stream)


def _connect(address: str | None) -> bool:
    """Connect to the cluster; returns whether this call connected, and so has to disconnect.

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
    _check_reachable(address)
    local: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
    try:
        # Workers' output is not copied to the driver, which has its own progress display.
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **local)
    except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
        raise D90Error(
            f"cannot reach the Ray cluster at '{address}': {_message(error)}; start one with "
            "`ray start --head`, or leave out the address."
        ) from error
    return True


def _check_reachable(address: str) -> None:
    """Check that a gRPC server answers at HOST:PORT: Ray itself would try for minutes.

    Raises:
        D90Error: none does.
    """
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if not colon:  # `auto`, `local` or the name of a cluster
        return
    try:
        target = host.strip("[]"), int(port)
        with socket.create_connection(target, timeout=CONNECT_SECONDS) as connection:
            connection.sendall(_HELLO)
            answer = connection.recv(9)
        # Every server of HTTP/2 sends its settings first, a frame of type 4; with TLS, it closes.
        if answer[3:4] != b"\4" and os.environ.get("RAY_USE_TLS", "0").lower() in ("0", "false"):
            raise OSError("what answers there is no Ray cluster")
    except (OSError, ValueError, OverflowError) as error:
        raise D90Error(
            f"cannot reach the Ray cluster at '{address}': {_message(error)}; start one with "
            "`ray start --head`, or leave out the address."
        ) from error


def _resources() -> list[dict[str, float]]:
    """What each node of the cluster has, in use or not."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _has_gpus() -> bool:
    return any(resources.get("GPU", 0) >= 1 for resources in _resources())


def _slots(cpus: float, gpus: float) -> int:
    """How many trials the nodes of the cluster have room for."""

    def room(resources: dict[str, float]) -> int:
        required = {"CPU": cpus, "GPU": gpus}
        fits = [resources.get(name, 0) / need for name, need in required.items() if need > 0]
        return int(min(fits)) if fits else 0

    return sum(map(room, _resources()))


@cache
def _task() -> Any:
    """The Ray task that runs a trial.

    Retries are up to the driver: Ray would skip as many messages of a second attempt as it had
    received from the first, and they are not the same messages.
    """
    import ray

    return ray.remote(max_retries=0, num_returns="streaming")(_run)


_runners: dict[str, Runner] = {}
"""The runner this worker has loaded, by its object reference."""


def _run(shared: list[Any], trial: Trial, threads: int) -> Iterator[Progress | TrialResult]:
    """The worker's side: yields progress, then the result."""
    import ray

    name = shared[0].hex()
    if name not in _runners:
        _runners.clear()  # One model at a time.
        _runners[name] = ray.get(shared[0])
    messages: SimpleQueue[Progress | TrialResult | Exception] = SimpleQueue()
    is_cancelled = Event()

    def report(progress: Progress) -> None:
        if is_cancelled.is_set():
            raise Cancelled
        messages.put(progress)

    def train() -> None:
        torch.set_num_threads(threads)  # Of this thread: OpenMP keeps one number per thread.
        try:
            messages.put(_runners[name].run(trial, throttle(report)))
        except Cancelled:
            pass
        except DeviceLostError as error:
            _log.error("%s", error)  # In Ray's log of this worker.
            os._exit(1)  # The next trial gets another process, which can use the GPU.
        except Exception as error:
            messages.put(error)

    thread = Thread(target=train, name="d90-trial", daemon=True)
    thread.start()
    try:
        yield from _until_result(messages, thread)
    finally:
        is_cancelled.set()
        thread.join()


def _until_result(
    messages: SimpleQueue[Progress | TrialResult | Exception], thread: Thread
) -> Iterator[Progress | TrialResult]:
    while True:
        try:
            # Ray interrupts a cancelled task between Python instructions, not during a wait.
            message = messages.get(timeout=POLL_SECONDS)
        except Empty:
            if not thread.is_alive() and messages.empty():
                return
            continue
        if isinstance(message, Exception):
            raise message
        yield message
        if isinstance(message, TrialResult):
            return


def _message(error: BaseException) -> str:
    return single_line(error).rstrip(".")
