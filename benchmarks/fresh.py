"""Call a function in a fresh process, whose memory holds nothing of what ran before.

The function is named by its module; arguments and result are passed as JSON.
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
    """`function(**arguments)` in a fresh process with the same number of threads.

    Args:
        function: defined at the top level of a module.
        arguments: serializable as JSON, like the result.

    Raises:
        Skip: if the function does.
        RuntimeError: the process failed; with its standard error.
    """
    task = [function.__module__, function.__qualname__, torch.get_num_threads(), arguments]
    command = [sys.executable, "-m", "benchmarks.fresh", json.dumps(task)]
    completed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    results = [line for line in completed.stdout.splitlines() if line.startswith(_MARK)]
    if completed.returncode or not results:
        raise RuntimeError(f"{' '.join(command[1:])} failed:\n{completed.stderr.strip()}")
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
