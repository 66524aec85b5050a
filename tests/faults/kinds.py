"""What can go wrong: how each fault is made, and what the command must say and do then."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from tests.faults.study import PATIENCE, Command
from tests.helpers.disks import Disk
from tests.helpers.postgres import Server


class Cluster(Protocol):
    """Ray on this machine, several nodes of it."""

    def kill_worker(self, draw: random.Random) -> bool: ...

    def kill_node(self, draw: random.Random) -> bool: ...


@dataclass(frozen=True)
class Surroundings:
    """What a study stands on, and a fault can take away.

    Attributes:
        disk: where its files are, if that can be filled.
        server: which has its store.
        database: the store's name there.
        cluster: which makes its runs.
    """

    disk: Disk | None = None
    server: Server | None = None
    database: str = ""
    cluster: Cluster | None = None


@dataclass(frozen=True)
class Kind:
    """A kind of fault.

    Attributes:
        strike: makes it; False where there was nothing to hit.
        code: with which the command ends; None where it must go on.
        says: what standard error must say (a regular expression).
        may_say: what it may say.
        repair: makes room again, for the same command.
        is_death: a worker dies of it.
    """

    strike: Callable[[Command, Surroundings, random.Random], bool]
    code: int | None
    says: str | None = None
    may_say: tuple[str, ...] = ()
    repair: Callable[[Surroundings], None] = lambda around: None
    is_death: bool = False


def kill(command: Command, around: Surroundings, draw: random.Random) -> bool:
    command.process.kill()
    return True


def interrupt(command: Command, around: Surroundings, draw: random.Random) -> bool:
    command.process.send_signal(signal.SIGINT)
    return True


def kill_worker(command: Command, around: Surroundings, draw: random.Random) -> bool:
    workers = command.workers()
    if workers:
        draw.choice(workers).kill()
    return bool(workers)


def take_memory(command: Command, around: Surroundings, draw: random.Random) -> bool:
    """From the driver, or from a worker that trains already."""
    number = draw.choice([signal.SIGUSR1, signal.SIGUSR2])
    command.process.send_signal(number)
    return True


def fill_disk(command: Command, around: Surroundings, draw: random.Random) -> bool:
    """Until the command has ended: SQLite's journal gives room back when it goes."""
    disk = around.disk
    assert disk is not None

    deadline = time.monotonic() + PATIENCE
    while command.process.poll() is None and time.monotonic() < deadline:
        disk.fill()
        time.sleep(0.001)
    return True


def make_room(around: Surroundings) -> None:
    assert around.disk is not None
    around.disk.make_room()


def drop_connections(command: Command, around: Surroundings, draw: random.Random) -> bool:
    assert around.server is not None
    return around.server.drop_connections(around.database) > 0


def restart_server(command: Command, around: Surroundings, draw: random.Random) -> bool:
    """With or without a farewell, for up to three seconds."""
    assert around.server is not None
    around.server.stop(crash=draw.random() < 0.5)
    time.sleep(draw.uniform(0, 3))
    around.server.start()
    return True


def kill_ray_worker(command: Command, around: Surroundings, draw: random.Random) -> bool:
    assert around.cluster is not None
    return around.cluster.kill_worker(draw)


def kill_ray_node(command: Command, around: Surroundings, draw: random.Random) -> bool:
    assert around.cluster is not None
    return around.cluster.kill_node(draw)


AWAY = (
    r"^store 'postgresql\+psycopg://.*' does not answer \(.*\): trying again for 60 seconds\.$",
    r"^store 'postgresql\+psycopg://.*' answers again: the study goes on\.$",
)

KINDS: Mapping[str, Kind] = {
    # Python's own helper of processes says that nobody is left to give back what they shared.
    "driver killed": Kind(kill, -signal.SIGKILL, None, ("resource_tracker", "warnings.warn")),
    "interrupted": Kind(interrupt, 130, "^interrupted: rerun the command to resume"),
    "worker killed": Kind(kill_worker, None, is_death=True),
    "out of memory": Kind(
        take_memory, None, r"^Trial\(.*\) ran out of memory \(.*\); retrying once"
    ),
    "disk full": Kind(
        fill_disk, 2, "^error: .*d90 disk .* cannot be written: No space left", (), make_room
    ),
    "connections dropped": Kind(drop_connections, None, None, AWAY),
    "server restarted": Kind(restart_server, None, None, AWAY),
    "Ray worker killed": Kind(kill_ray_worker, None, is_death=True),
    "Ray node killed": Kind(kill_ray_node, None, is_death=True),
}

GROUNDS: Mapping[str, Mapping[str, Any]] = {
    "file": {
        "store": "file",
        "executor": (),
        "kinds": ("driver killed", "interrupted", "out of memory", "disk full"),
    },
    "file, processes": {
        "store": "file",
        "executor": ("--executor", "processes", "--workers", "2"),
        "kinds": ("driver killed", "interrupted", "worker killed", "disk full"),
    },
    "server": {
        "store": "server",
        "executor": (),
        "kinds": ("driver killed", "out of memory", "connections dropped", "server restarted"),
    },
    "server, processes": {
        "store": "server",
        "executor": ("--executor", "processes", "--workers", "2"),
        "kinds": ("driver killed", "worker killed", "connections dropped", "server restarted"),
    },
    "file, Ray": {
        "store": "file",
        "executor": ("--executor", "ray"),
        "kinds": ("driver killed", "interrupted", "Ray worker killed", "Ray node killed"),
    },
    "server, Ray": {
        "store": "server",
        "executor": ("--executor", "ray"),
        "kinds": ("driver killed", "Ray worker killed", "Ray node killed", "server restarted"),
    },
}
"""What a study can stand on, and what can be taken away there."""
