"""A Ray cluster of three nodes on this machine, of which one can be lost at any time."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import psutil


class RayNodes:
    """A head that makes no runs, and two nodes of one core that make them."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": 80_000_000}
        self._cluster = Cluster(initialize_head=True, head_node_args=head)
        self._nodes = [self._new_node() for _ in range(2)]

    @property
    def address(self) -> str:
        """For `--address`."""
        return str(self._cluster.address)

    def kill_worker(self, draw: random.Random) -> bool:
        """A process that makes a run now; False where none does."""
        busy = [child for child in _descendants() if "ray::_run" in _name(child)]
        if busy:
            draw.choice(busy).kill()
        return bool(busy)

    def kill_node(self, draw: random.Random) -> bool:
        """A node with all that runs on it; another one comes, as clusters do it."""
        lost = self._nodes.pop(draw.randrange(len(self._nodes)))
        self._cluster.remove_node(lost, allow_graceful=False)
        self._nodes.append(self._new_node())
        return True

    def stop(self) -> None:
        """End it."""
        self._cluster.shutdown()

    def _new_node(self) -> Any:
        return self._cluster.add_node(num_cpus=1, object_store_memory=80_000_000)


def missing() -> str | None:
    """Why there can be no cluster here, or None."""
    return None if find_spec("ray") else "ray is not installed"


@contextmanager
def running() -> Iterator[RayNodes]:
    """A cluster, which ends with the context."""
    nodes = RayNodes()
    try:
        yield nodes
    finally:
        nodes.stop()


def _descendants() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def _name(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""
