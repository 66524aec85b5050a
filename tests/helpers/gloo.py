"""Two processes that talk over this machine's loopback, for tests of runs made together."""

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

PROCESSES = 2
SECONDS = 120


@cache
def pair() -> Pair:
    """The pair that every test module uses."""
    folder = tempfile.TemporaryDirectory()
    made = Pair(Path(folder.name))
    atexit.register(lambda: (made.close(), folder.cleanup()))
    return made


class Pair:
    """Two processes of one group, started once: to load torch takes longer than what they do.

    Args:
        folder: an empty one, where they meet.
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
        """What `worker(rank, *arguments)` returns in each process.

        Args:
            worker: a function at the top of a module.
            arguments: what else it gets.
        """
        for pipe in self._pipes:
            pipe.send((worker, arguments))
        if not all(pipe.poll(SECONDS) for pipe in self._pipes):
            self.close()
            raise TimeoutError(f"{worker.__name__} has not ended after {SECONDS} seconds")
        found = [pickle.loads(pipe.recv_bytes()) for pipe in self._pipes]
        failed = [text for is_error, text in found if is_error]
        assert not failed, "\n".join(failed)
        return [value for _, value in found]

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.join()


def _serve(rank: int, folder: str, pipe: Connection) -> None:
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=PROCESSES)
    while True:
        worker, arguments = pipe.recv()
        try:
            said = False, worker(rank, *arguments)
        except Exception:
            said = True, f"process {rank}: {traceback.format_exc()}"
        # Bytes: tensors would else travel as handles of memory that this process may free.
        pipe.send_bytes(pickle.dumps(said))
