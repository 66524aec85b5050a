"""Run trials in several processes of this machine; each makes its own runner once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Set
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection
from queue import SimpleQueue
from time import monotonic

import torch

from d90.errors import D90Error
from d90.executors.base import (
    ATTEMPTS,
    Cancelled,
    OnProgress,
    Runner,
    study_ended,
    throttle,
    worker_died,
)
from d90.executors.device import DeviceLostError, only_gpu, visible_gpus
from d90.search.trial import Trial, TrialResult
from d90.training import Progress
from d90.training.memory import CUDA_CONTEXT, available_memory

WORKERS_PER_GPU = 4
"""By default; small models leave a GPU idle between their kernels. Not measured yet."""

STOP = "stop"
"""Sent to a worker whose trial is no longer needed, and back when it has ended."""


class ProcessExecutor:
    """An executor with several workers that share nothing but the machine.

    On a machine with several GPUs, each worker sees one of them, in turn.

    A worker that dies, for example because memory ran out, or that can no longer use its GPU, is
    replaced and its trial is restarted; the other workers are not affected. If the main process
    dies, its workers exit at their next progress report.

    Args:
        runner: runs a trial; each worker makes its own with its `factory`.
        workers: number of concurrent trials; None means one per core, but at most
            `WORKERS_PER_GPU` for each GPU.

    Raises:
        D90Error: so many trials do not fit into memory, or the factory cannot be pickled.
    """

    def __init__(self, runner: Runner, workers: int | None = None) -> None:
        gpus = visible_gpus() if runner.device.type == "cuda" else []
        self.workers = workers or _default_workers(len(gpus))
        _check_memory(runner, self.workers, len(gpus))
        self._gpus = gpus if len(gpus) > 1 else [None]
        self._factory = runner.factory
        self._threads = max(torch.get_num_threads() // self.workers, 1)
        self._idle: SimpleQueue[_Slot] = SimpleQueue()
        self._alive: set[_Worker] = set()
        self._futures: dict[Trial, Future[TrialResult]] = {}
        self._cancelled: set[Trial] = set()
        self._pool: ThreadPoolExecutor | None = None

    @property
    def slots(self) -> int:
        """Number of trials that can run at once: all workers."""
        return self.workers

    def __enter__(self) -> ProcessExecutor:
        self._pool = ThreadPoolExecutor(self.workers, thread_name_prefix="d90-worker")
        for index in range(self.workers):
            self._idle.put(_Slot(self._gpus[index % len(self._gpus)]))
        return self

    def __exit__(self, *error: object) -> None:
        assert self._pool is not None
        self._pool.shutdown(wait=False, cancel_futures=True)
        # Killing a worker wakes the thread that waits for it.
        pool, self._pool = self._pool, None
        for worker in [*self._alive]:
            worker.kill()
        pool.shutdown(wait=True)
        for worker in self._alive:
            worker.close()

    def submit(self, trial: Trial, on_progress: OnProgress) -> Future[TrialResult]:
        """Start the trial in an idle worker; see `Executor.submit`."""
        assert self._pool is not None, "enter the executor first"
        self._cancelled.discard(trial)
        self._futures[trial] = self._pool.submit(self._run, trial, on_progress)
        return self._futures[trial]

    def cancel(self, trial: Trial) -> None:
        """End the trial at its next progress report; see `Executor.cancel`."""
        if not self._futures[trial].cancel():
            self._cancelled.add(trial)

    def _run(self, trial: Trial, on_progress: OnProgress) -> TrialResult:
        slot = self._idle.get()
        started, reason = monotonic(), ""
        try:
            for _ in range(ATTEMPTS):
                worker = slot.worker = slot.worker or self._new_worker(slot.gpu)
                try:
                    # Checked after the worker was added to `_alive`; `__exit__` clears `_pool`
                    # before it kills what is in `_alive`: no worker outlives the study.
                    if self._pool is None:
                        raise EOFError
                    return worker.run(trial, on_progress, self._cancelled)
                except (EOFError, OSError, DeviceLostError) as error:
                    lost = isinstance(error, DeviceLostError)
                    reason = error.reason if lost else "too little memory?"
                    self._alive.discard(worker)
                    worker.kill()
                    worker.close()
                    slot.worker = None
                    if self._pool is None:  # The study has ended.
                        raise study_ended() from None
            return worker_died(trial, ATTEMPTS, reason, seconds=monotonic() - started)
        finally:
            self._idle.put(slot)

    def _new_worker(self, gpu: str | None) -> _Worker:
        worker = _Worker(self._factory, self._threads, gpu)
        self._alive.add(worker)
        return worker


def _default_workers(gpus: int) -> int:
    cores = len(os.sched_getaffinity(0))
    return min(cores, WORKERS_PER_GPU * gpus) if gpus else cores


def _check_memory(runner: Runner, workers: int, gpus: int) -> None:
    """Check that so many trials fit into memory at once, on each GPU if there are GPUs.

    Raises:
        D90Error: they do not.
    """
    each = runner.trial_memory
    if not gpus:
        _check_device_memory(runner, workers, each, runner.device)
    for index in range(min(gpus, workers)):
        device = torch.device("cuda", index)
        _check_device_memory(runner, len(range(index, workers, gpus)), each + CUDA_CONTEXT, device)


def _check_device_memory(runner: Runner, workers: int, each: int, device: torch.device) -> None:
    need, free = workers * each, available_memory(device)
    if need > free:
        raise D90Error(
            f"{workers} trials of '{runner.name}' at once need about {need / 1e9:.1f} GB and "
            f"{free / 1e9:.1f} GB of memory is free on {device}: lower workers."
        )


@dataclass
class _Slot:
    """The place of one worker, and the GPU that the processes in it see; None for all."""

    gpu: str | None
    worker: _Worker | None = None


class _Worker:
    """A process that runs trials one after another."""

    def __init__(self, factory: Callable[[], Runner], threads: int, gpu: str | None) -> None:
        context = get_context("spawn")  # A fork of a process with threads may hang.
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, factory, threads), daemon=True)
        with only_gpu(gpu), _no_interrupts():
            self._process.start()
        theirs.close()

    def run(self, trial: Trial, on_progress: OnProgress, cancelled: Set[Trial]) -> TrialResult:
        """Run a trial and return its result.

        Raises:
            EOFError, OSError: the process died.
            DeviceLostError: the process has exited, because it could no longer use its GPU.
            Cancelled: the trial was cancelled; the worker is idle again.
            D90Error: as `Runner.factory` and `Runner.run`.
        """
        self._connection.send(trial)
        is_stop_sent = False
        while True:
            message = self._connection.recv()
            if isinstance(message, Progress):
                on_progress(message)
                if trial in cancelled and not is_stop_sent:
                    self._connection.send(STOP)
                    is_stop_sent = True
            elif message == STOP:
                raise Cancelled
            elif isinstance(message, TrialResult):
                return replace(message, trial=trial)
            elif isinstance(message, DeviceLostError):
                raise message
            else:
                raise D90Error(message)

    def kill(self) -> None:
        """End the process now; a thread that reads from it gets an EOFError."""
        self._process.kill()
        self._process.join()

    def close(self) -> None:
        """Close the connection, which no thread reads from any more."""
        self._connection.close()


@contextmanager
def _no_interrupts() -> Iterator[None]:
    """Processes started within are never interrupted, not even while Python starts: Ctrl-C goes to
    all processes of a terminal, and the imports of a worker take seconds.
    """
    resource_tracker.ensure_running()  # It would be started first, and unblock the signal.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(connection: Connection, factory: Callable[[], Runner], threads: int) -> None:
    """Main loop of a worker: receive trials, send progress and results."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # For the processes that this one starts.
    torch.set_num_threads(threads)
    try:
        runner = factory()
        while True:
            trial = connection.recv()
            if trial == STOP:  # It came too late: the trial had ended.
                continue
            try:
                connection.send(runner.run(trial, _send_through(connection)))
            except Cancelled:
                connection.send(STOP)
    except DeviceLostError as error:
        connection.send(error)
        os._exit(1)  # Python's own exit would call CUDA once more.
    except D90Error as error:
        connection.send(str(error))
    except (EOFError, OSError):
        os._exit(0)


def _send_through(connection: Connection) -> OnProgress:
    def send(progress: Progress) -> None:
        try:
            connection.send(progress)
            is_cancelled = connection.poll() and connection.recv() == STOP
        except (EOFError, OSError):  # The main process died.
            os._exit(0)
        if is_cancelled:
            raise Cancelled

    return throttle(send)
