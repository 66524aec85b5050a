"""Parts of a GPU check that work, fail, raise, hang and die."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator

from benchmarks.gpu.part import Result, Setup


def work(setup: Setup) -> Iterator[Result]:
    yield Result("figures", {"pid": os.getpid(), "device": setup.device})
    yield Result("check", 1.0, ok=True, expected="1")


def fail(setup: Setup) -> Iterator[Result]:
    yield Result("first", 2.0, ok=False, expected="1")
    yield Result("second", 1.0, ok=True, expected="1")


def throw(setup: Setup) -> Iterator[Result]:
    yield Result("before", 1.0, ok=True)
    raise RuntimeError("a broken part")


def doze(setup: Setup) -> Iterator[Result]:
    """Too long, but Python can still stop it."""
    yield Result("before", 1.0, ok=True)
    time.sleep(60)


def hang(setup: Setup) -> Iterator[Result]:
    """Deaf to its time limit, as a call of a driver that does not return."""
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    yield Result("before", 1.0, ok=True)
    time.sleep(60)


def die(setup: Setup) -> Iterator[Result]:
    yield Result("before", 1.0, ok=True)
    os.kill(os.getpid(), signal.SIGSEGV)


def leave_a_process(setup: Setup) -> Iterator[Result]:
    child = subprocess.Popen(["sleep", "60"])
    yield Result("process of its own", child.pid)
    yield from hang(setup)
