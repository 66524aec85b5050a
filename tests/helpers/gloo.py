"""Two processes connected by gloo over loopback, for tests of distributed runs."""

from __future__ import annotations

import atexit
import os
import pickle
import tempfile
import traceback
from collections.abc import Callable
from functools import cache
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from d90.errors import D90Error

PROCESSES = 2
SECONDS = 120


@cache
def pair() -> Pair:
    """The pair shared by all test modules."""
    folder = tempfile.TemporaryDirectory()
    processes = Pair(Path(folder.name))
    atexit.register(lambda: (processes.close(), folder.cleanup()))
    return processes


class Pair:
    """Two processes of one group, started once because importing torch takes longer than the tests.

    Args:
        folder: an empty folder for the rendezvous.
    """

    def __init__(self, folder: Path) -> None:
        context = get_context("spawn")
        self._pipes, self._processes = [], []
        for rank in range(PROCESSES):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(rank, str(folder), theirs), daemon=True)
            process.start()
            self._pipes.append(ours)
            self._processes.append(process)

    def run(self, worker: Callable[..., Any], *arguments: Any) -> list[Any]:
        """The return value of `worker(rank, *arguments)` in each process.

        Args:
            worker: a function at the top level of a module.
            arguments: further arguments of it.
        """
        for pipe in self._pipes:
            pipe.send((worker, arguments))
        if not all(pipe.poll(SECONDS) for pipe in self._pipes):
            self.close()
            raise TimeoutError(f"{worker.__name__} has not ended after {SECONDS} seconds")
        answers = [pickle.loads(pipe.recv_bytes()) for pipe in self._pipes]
        errors = [text for is_error, text in answers if is_error]
        assert not errors, "\n".join(errors)
        return [value for _, value in answers]

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.join()


def error_of(function: Callable[[], Any]) -> str:
    """The type and the message of the error that a function raises, or `none`."""
    try:
        function()
    except (D90Error, FloatingPointError) as error:
        return f"{type(error).__name__}: {error}"
    return "none"


def _serve(rank: int, folder: str, pipe: Connection) -> None:
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=PROCESSES)
    while True:
        worker, arguments = pipe.recv()
        try:
            answer = False, worker(rank, *arguments)
        except Exception:
            answer = True, f"process {rank}: {traceback.format_exc()}"
        # As bytes: tensors would be sent as handles to memory that this process may free.
        pipe.send_bytes(pickle.dumps(answer))
