"""Parts 14 and 15: NVIDIA's profiler and memory checker on the kernels, where there are any."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from glob import glob

from benchmarks.gpu.part import Result, Setup, Value, check
from benchmarks.gpu.runner import ROOT

PLACES = {
    "ncu": ("/usr/local/cuda/bin/ncu", "/opt/nvidia/nsight-compute/*/ncu"),
    "compute-sanitizer": ("/usr/local/cuda/bin/compute-sanitizer",),
}
"""Where a tool is that is not on the PATH."""

METRICS = {
    "us": "gpu__time_duration.sum",
    "issue %": "smsp__issue_active.avg.pct_of_peak_sustained_active",
    "DRAM %": "dram__throughput.avg.pct_of_peak_sustained_elapsed",
    "warps %": "sm__warps_active.avg.pct_of_peak_sustained_active",
    "registers": "launch__registers_per_thread",
    "instructions": "smsp__inst_executed.sum",
}
"""Figure -> metric of the profiler, in its base units: nanoseconds for the time."""

PROFILER_SECONDS = 60.0
SANITIZER_SECONDS = 75.0

CHECKS = {"memcheck": "ERROR SUMMARY: 0 errors", "racecheck": "(0 errors"}
"""Tool of the sanitizer -> what its last line has if all is well."""


def profile(setup: Setup) -> Iterator[Result]:
    """Apply and adjoint of onehot and fastfood under `ncu`."""
    tool = find("ncu")
    if tool is None:
        yield _absent(setup, "ncu")
        return
    for name in ("onehot", "fastfood"):
        try:
            rows = _profiled(tool, name)
        except (OSError, RuntimeError, ValueError) as error:
            yield Result(name, str(error), False, "a profile")
            continue
        for number, row in enumerate(rows):
            yield Result(f"{name} {number}: {row['Kernel Name']}", figures(row))


def sanitize(setup: Setup) -> Iterator[Result]:
    """Few weights, short blocks and long, under each check of `compute-sanitizer`."""
    tool = find("compute-sanitizer")
    if tool is None:
        yield _absent(setup, "compute-sanitizer")
        return
    for name, clean in CHECKS.items():
        yield check(name, "clean", partial(_sanitized, tool, name, clean))


def find(tool: str) -> str | None:
    """Its path, if it is installed."""
    places = [path for pattern in PLACES[tool] for path in sorted(glob(pattern))]
    return shutil.which(tool) or next(iter(reversed(places)), None)


def _absent(setup: Setup, tool: str) -> Result:
    """Without the tool: on a CPU, that at least the program runs that it would watch."""
    if setup.is_rehearsal:
        _run([], ["onehot", "--d", "16", "--D", "600", "--device", "cpu"], 60.0)
    return Result(tool, "not installed")


def _profiled(tool: str, name: str) -> list[dict[str, str]]:
    """A row of metrics for each kernel of the projection.

    Raises:
        RuntimeError: the profiler failed or took too long.
        ValueError: its output has no table.
    """
    command = [tool, "--csv", "--page", "raw", "--print-units", "base", "--clock-control", "none"]
    # Of the second calls alone, and not those of torch.
    command += ["--profile-from-start", "off", "--kernel-name", f"regex:^({'|'.join(_kernels())})$"]
    command += ["--metrics", ",".join(METRICS.values())]
    return table(_run(command, [name], PROFILER_SECONDS))


def _kernels() -> list[str]:
    """Names of the Triton kernels, and of the functions that are inlined into them."""
    from triton.runtime.jit import JITFunction

    from d90.projections.kernels.triton import fastfood, onehot

    names = {
        name
        for module in (fastfood, onehot)
        for name, value in vars(module).items()
        if isinstance(value, JITFunction)
    }
    return sorted(names)


def table(output: str) -> list[dict[str, str]]:
    """The rows of the profiler's CSV, which other lines and a row of units surround.

    Raises:
        ValueError: there is none.
    """
    lines = output.splitlines()
    starts = [number for number, line in enumerate(lines) if line.startswith('"ID"')]
    if not starts:
        raise ValueError(f"no table: {' '.join(lines[-3:])[-300:]}")
    return [row for row in csv.DictReader(lines[starts[0] :]) if (row["ID"] or "").isdigit()]


def figures(row: Mapping[str, str]) -> dict[str, float | str]:
    """The metrics of a kernel by their names for readers; a metric that is missing is left out."""
    found: dict[str, float | str] = {}
    for name, metric in METRICS.items():
        text = (row.get(metric) or "").replace(",", "")
        try:
            found[name] = float(text) / (1e3 if name == "us" else 1)
        except ValueError:
            if text:
                found[name] = text
    return found


def _sanitized(tool: str, name: str, clean: str) -> tuple[bool, Value]:
    # torch's own cache would hide an access behind the end of a tensor.
    environment = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    sizes = ["onehot", "fastfood", "--d", "16", "1000", "--D", "20000"]
    output = _run([tool, "--tool", name], sizes, SANITIZER_SECONDS, environment)
    summaries = [line for line in output.splitlines() if "SUMMARY" in line]
    summary = summaries[-1].strip("= ") if summaries else output[-300:]
    return clean in summary, summary


def _run(
    tool: Sequence[str],
    arguments: Sequence[str],
    seconds: float,
    environment: Mapping[str, str] | None = None,
) -> str:
    """What a tool and the program that launches the kernels print.

    Raises:
        RuntimeError: they failed, or took longer than `seconds`.
    """
    command = [*tool, sys.executable, "-m", "benchmarks.gpu.launch", *arguments]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired as expired:
        raise RuntimeError(f"no end after {seconds:.0f} s") from expired
    finally:
        # The tool's own child has the GPU, and would outlive the tool.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.returncode:
        raise RuntimeError(f"exit code {process.returncode}: {output[-500:]}")
    return output
