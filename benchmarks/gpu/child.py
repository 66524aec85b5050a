"""The process that runs the parts, one after another; `runner.py` starts and watches it."""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import time
import traceback
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.gpu.part import Part, Result, Setup

BROKEN_DEVICE = 3
"""Exit code: the GPU answers nothing but errors, which only another process gets rid of."""

BEGIN, END = "begin", "end"

_LAST_LINES = 6


def main() -> None:
    """Run the parts given as JSON, and send `BEGIN`, the results and `END` of each."""
    task = json.loads(sys.argv[1])
    os.set_inheritable(task["pipe"], False)
    pipe = Connection(task["pipe"], readable=False)
    setup = Setup(task["device"], Path(task["folder"]))
    signal.signal(signal.SIGALRM, _on_alarm)
    for part in (Part(**fields) for fields in task["parts"]):
        pipe.send(BEGIN)
        _run(part, setup, pipe)
        problem = _recover(setup)
        if problem:
            pipe.send(Result("GPU afterwards", problem, False, "usable", part.number))
        pipe.send(END)
        if problem:
            os._exit(BROKEN_DEVICE)  # Destructors would wait for the GPU, or crash.


def _run(part: Part, setup: Setup, pipe: Connection) -> None:
    """Run a part to its end, its limit or an exception."""
    before = time.monotonic()
    signal.setitimer(signal.ITIMER_REAL, part.seconds)
    try:
        for result in part.run(setup):
            now = time.monotonic()
            ok = None if result.ok is None else bool(result.ok)  # numpy has its own
            pipe.send(replace(result, ok=ok, part=part.number, seconds=now - before))
            before = now
        setup.synchronize()
    except (Exception, OutOfTime) as error:  # A broken part must not cost the others.
        text = "".join(traceback.format_exception(error)).strip()
        lines = "\n".join(text.splitlines()[-_LAST_LINES:])
        seconds = time.monotonic() - before
        pipe.send(Result("exception", lines, False, "none", part.number, seconds))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _recover(setup: Setup) -> str:
    """Free what a part left; the GPU's error if it reports one, which then stays."""
    gc.collect()
    if setup.is_rehearsal:
        return ""
    import torch

    try:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


class OutOfTime(BaseException):
    """A part is at its limit. No Exception: what survives those must not survive this."""


def _on_alarm(number: int, frame: object) -> None:
    raise OutOfTime("the part's time limit")


if __name__ == "__main__":
    main()
