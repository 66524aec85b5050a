"""Trials in several processes of this machine, each with the model and the texts loaded once."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Set
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from queue import SimpleQueue
from time import monotonic
from typing import Any

import torch

from d90.errors import D90Error
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
from d90.training.memory import available_memory

STOP = "stop"
"""What a worker is told when its trial is not needed any more."""


class ProcessExecutor:
    """An executor of several workers, which share nothing but the machine.

    A worker that dies, killed for want of memory for example, is replaced, and its trial starts
    again; the others are not disturbed. Where the driver dies, however it does, its workers end at
    their next update.

    Args:
        trainer: what runs a trial; each worker makes its own of the same arguments.
        workers: trials at once; one a core where None.
    """

    def __init__(self, runner: TrialRunner, workers: int | None = None) -> None:
        self.workers = workers or len(os.sched_getaffinity(0))
        _check_memory(runner, self.workers)
        self._recipe = runner.init_kwargs
        self._threads = max(torch.get_num_threads() // self.workers, 1)
        self._idle: SimpleQueue[_Worker | None] = SimpleQueue()
        self._alive: set[_Worker] = set()
        self._futures: dict[Trial, Future[TrialResult]] = {}
        self._cancelled: set[Trial] = set()
        self._pool: ThreadPoolExecutor | None = None

    @property
    def slots(self) -> int:
        """All the workers there are."""
        return self.workers

    def __enter__(self) -> ProcessExecutor:
        self._pool = ThreadPoolExecutor(self.workers, thread_name_prefix="d90-worker")
        for _ in range(self.workers):
            self._idle.put(None)
        return self

    def __exit__(self, *error: object) -> None:
        assert self._pool is not None
        self._pool.shutdown(wait=False, cancel_futures=True)
        # A thread that waits for a worker is told by its death.
        pool, self._pool = self._pool, None
        for worker in [*self._alive]:
            worker.kill()
        pool.shutdown(wait=True)
        for worker in self._alive:
            worker.close()

    def submit(self, trial: Trial, on_progress: OnProgress) -> Future[TrialResult]:
        """Start the trial in an idle worker, in `Executor`'s terms."""
        assert self._pool is not None, "enter the executor first"
        self._cancelled.discard(trial)
        self._futures[trial] = self._pool.submit(self._run, trial, on_progress)
        return self._futures[trial]

    def cancel(self, trial: Trial) -> None:
        """End the trial at its next update, in `Executor`'s terms."""
        if not self._futures[trial].cancel():
            self._cancelled.add(trial)

    def _run(self, trial: Trial, on_progress: OnProgress) -> TrialResult:
        worker = self._idle.get()
        started = monotonic()
        try:
            for _ in range(ATTEMPTS):
                if worker is None:
                    worker = self._new_worker()
                try:
                    # Looked at after the worker is known to `__exit__`, which sets it before it
                    # kills: whichever comes first, no worker outlives the study.
                    if self._pool is None:
                        raise EOFError
                    return worker.run(trial, on_progress, self._cancelled)
                except (EOFError, OSError):
                    self._alive.discard(worker)
                    worker.kill()
                    worker.close()
                    worker = None
                    if self._pool is None:  # The study is over: so is the trial.
                        raise study_ended() from None
            return worker_died(trial, ATTEMPTS, "too little memory?", seconds=monotonic() - started)
        finally:
            self._idle.put(worker)

    def _new_worker(self) -> _Worker:
        worker = _Worker(self._recipe, self._threads)
        self._alive.add(worker)
        return worker


def _check_memory(runner: TrialRunner, workers: int) -> None:
    """Stop before training where so many runs cannot fit beside one another.

    Raises:
        D90Error: more is needed than there is.
    """
    need = workers * runner.estimate_memory(None).total
    free = available_memory(runner.device)
    if need > free:
        raise D90Error(
            f"{workers} runs of '{runner.model_name}' at once need about {need / 1e9:.1f} GB and "
            f"{free / 1e9:.1f} GB of memory is free: lower workers."
        )


class _Worker:
    """A process that runs one trial after another."""

    def __init__(self, recipe: Mapping[str, Any], threads: int) -> None:
        context = get_context("spawn")  # A fork of a process with threads may hang.
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, recipe, threads), daemon=True)
        self._process.start()
        theirs.close()

    def run(self, trial: Trial, on_progress: OnProgress, cancelled: Set[Trial]) -> TrialResult:
        """The record of the trial.

        Raises:
            EOFError, OSError: the process died.
            Cancelled: the trial was, and the worker is free again.
            D90Error: as `TrialRunner`.
        """
        self._ours.send(trial)
        is_told = False
        while True:
            said = self._ours.recv()
            if isinstance(said, Progress):
                on_progress(said)
                if trial in cancelled and not is_told:
                    self._ours.send(STOP)
                    is_told = True
            elif said == STOP:
                raise Cancelled
            elif isinstance(said, TrialResult):
                return replace(said, trial=trial)
            else:
                raise D90Error(said)

    def kill(self) -> None:
        """End the process now; a thread that hears it is told."""
        self._process.kill()
        self._process.join()

    def close(self) -> None:
        """Let go of the connection, which no thread hears any more."""
        self._ours.close()


def _serve(connection: Connection, recipe: Mapping[str, Any], threads: int) -> None:
    """What a worker does: trials in, progress and records out, until the driver is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the driver.
    torch.set_num_threads(threads)
    try:
        runner = TrialRunner(**recipe)
        while True:
            trial = connection.recv()
            if trial == STOP:  # It came too late: the record was on its way.
                continue
            try:
                connection.send(runner.run(trial, _tell_through(connection)))
            except Cancelled:
                connection.send(STOP)
    except D90Error as error:
        connection.send(str(error))
    except (EOFError, OSError):
        os._exit(0)


def _tell_through(connection: Connection) -> OnProgress:
    def tell(progress: Progress) -> None:
        try:
            connection.send(progress)
            is_over = connection.poll() and connection.recv() == STOP
        except (EOFError, OSError):  # Nobody listens: the driver is dead.
            os._exit(0)
        if is_over:
            raise Cancelled

    return throttle(tell)
