"""A function in a fresh process, so that nothing that ran before is in its memory.

The function is named by its module and called with keyword arguments; both ways go through JSON.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.cases import Skip
from benchmarks.machine import ROOT

_MARK = "result: "


def call(function: Callable[..., Any], **arguments: Any) -> Any:
    """`function(**arguments)` in a process of its own, with this one's number of threads.

    Args:
        function: of a module, not nested.
        arguments: as JSON holds them; so is the result.

    Raises:
        Skip: where the function does.
        RuntimeError: with what the process said, where it fails.
    """
    task = [function.__module__, function.__qualname__, torch.get_num_threads(), arguments]
    command = [sys.executable, "-m", "benchmarks.fresh", json.dumps(task)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    results = [line for line in done.stdout.splitlines() if line.startswith(_MARK)]
    if done.returncode or not results:
        raise RuntimeError(f"{' '.join(command[1:])} failed:\n{done.stderr.strip()}")
    answer = json.loads(results[-1].removeprefix(_MARK))
    if "skip" in answer:
        raise Skip(answer["skip"])
    return answer["value"]


def _main() -> None:
    module, name, threads, arguments = json.loads(sys.argv[1])
    torch.set_num_threads(threads)
    try:
        answer = {"value": getattr(importlib.import_module(module), name)(**arguments)}
    except Skip as skip:
        answer = {"skip": str(skip)}
    print(_MARK + json.dumps(answer), flush=True)


if __name__ == "__main__":
    _main()
