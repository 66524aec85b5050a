"""Parts run in a child process that is replaced where it dies or hangs.

This process never touches the GPU. One child runs all parts, so torch and the GPU start once; a
part that breaks it costs only itself: another child goes on with the next part.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.gpu.child import BEGIN, BROKEN_DEVICE, END
from benchmarks.gpu.part import Part, Result, Setup

ROOT = Path(__file__).resolve().parents[2]
GRACE = 15.0
"""Seconds between a part's limit, at which Python stops it, and the end of a child that hangs."""

DEAD = "dead"

_POLL = 0.2

Keep = Callable[[Result], None]


def run_parts(
    parts: Sequence[Part], setup: Setup, keep: Keep, *, limit: float, grace: float = GRACE
) -> None:
    """Run parts in order.

    Args:
        parts: each with another number.
        setup: what they run on.
        keep: called with every result as it comes.
        limit: seconds in all; parts that do not begin in time get a line that says so.
        grace: see `GRACE`.
    """
    deadline = time.monotonic() + limit
    left = list(parts)
    while left and time.monotonic() < deadline:
        left = _run_child(left, setup, keep, deadline, grace)
    for part in left:
        keep(Result("not run", f"after {limit:.0f} s", False, "within the limit", part.number))


def _run_child(
    parts: list[Part], setup: Setup, keep: Keep, deadline: float, grace: float
) -> list[Part]:
    """Run parts in one child until the last, its end, or the deadline; what is left to run."""
    reader, writer = Pipe(duplex=False)
    child = _start(parts, setup, writer)
    writer.close()
    left = list(parts)
    began = time.monotonic()  # A child that does not reach its first part hangs as well.
    try:
        while left:
            message = _receive(reader, child)
            now = time.monotonic()
            if isinstance(message, Result):
                keep(message)
            elif message == BEGIN:
                began = now
            elif message == END:
                left.pop(0)
                began = now
            elif message == DEAD:
                if child.wait() == BROKEN_DEVICE:  # After the end of a part.
                    return left
                keep(_ended(left.pop(0), child.wait(), now - began))
                return left
            elif now > min(deadline, began + left[0].seconds + grace):
                keep(_hung(left.pop(0), now - began))
                return left
    finally:
        _kill(child)
        reader.close()
    return left


def _start(parts: Sequence[Part], setup: Setup, writer: Connection) -> subprocess.Popen[bytes]:
    task = {
        "pipe": writer.fileno(),
        "device": setup.device,
        "folder": str(setup.folder),
        "parts": [asdict(part) for part in parts],
    }
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.gpu.child", json.dumps(task)],
        env=_environment(setup),
        pass_fds=[writer.fileno()],
        start_new_session=True,  # So that its own processes end with it.
    )


def _environment(setup: Setup) -> dict[str, str]:
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    settings = {
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    if setup.is_rehearsal:
        settings |= {
            "TRITON_INTERPRET": "1",
            "D90_KERNEL": "triton",
            "CUDA_VISIBLE_DEVICES": "",
            "OMP_NUM_THREADS": "1",
        }
    return {**os.environ, **settings}


def _receive(reader: Connection, child: subprocess.Popen[bytes]) -> Result | str | None:
    """The next message; `DEAD` from a child that has ended, after its last; None for none yet."""
    has_ended = child.poll() is not None
    try:
        if reader.poll(_POLL):
            return reader.recv()
    except EOFError:
        return DEAD
    return DEAD if has_ended else None


def _ended(part: Part, code: int, seconds: float) -> Result:
    cause = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return Result("process", f"ended by {cause}", False, "alive", part.number, seconds)


def _hung(part: Part, seconds: float) -> Result:
    return Result("process", f"killed after {seconds:.0f} s", False, "alive", part.number, seconds)


def _kill(child: subprocess.Popen[bytes]) -> None:
    """End the child and what it started."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
