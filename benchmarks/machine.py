"""The machine and the software of a benchmark run, as its first entry."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil
import torch

from benchmarks.entries import Entry
from d90.projections.kernels import native
from d90.projections.kernels.dispatch import select_kernel

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("torch", "transformers", "peft")


def describe(*, quick: bool, skipped: Mapping[str, str]) -> Entry:
    """The entry; its value is the number of threads.

    Args:
        quick: whether the sizes were too small for meaningful figures.
        skipped: reasons of the cases that were not measured, by name.
    """
    about = {
        "kind": "machine",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "instructions": _instructions(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        **{package: package_version(package) for package in PACKAGES},
        "commit": _commit(),
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "quick": quick,
        "skipped": dict(skipped),
    }
    return Entry("machine", torch.get_num_threads(), "threads", about=about)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _instructions() -> str:
    if select_kernel(torch.zeros(1)) != "native":
        return "none (torch reference)"
    library = native.library()
    assert library is not None
    return library.d90_isa().decode()


def package_version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _commit() -> str:
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no", "src", "native")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head} with changes" if changed else head


def _git(*arguments: str) -> str:
    command = ["git", *arguments]
    completed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return completed.stdout.strip()
