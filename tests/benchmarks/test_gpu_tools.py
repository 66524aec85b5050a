"""What the GPU check reads from tools and warnings that no test machine has."""

from __future__ import annotations

import os
import time
import warnings
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from benchmarks.gpu import speed, steps, tools
from benchmarks.gpu.part import Setup
from triton.runtime.jit import JITFunction

from d90.executors import base
from d90.projections.kernels import triton
from d90.projections.kernels.base import RowBlock
from d90.training import Progress

SETUP = Setup("cuda", Path(".gpu"))

PROFILE = """==PROF== Connected to process 123 (/usr/bin/python3.12)
8 calls of onehot
"ID","Process ID","Kernel Name","Block Size","gpu__time_duration.sum","launch__registers_per_thread"
"","","","","ns","register/thread"
"0","123","apply_tiles","(128, 1, 1)","412,345","80"
"1","123","adjoint_tiles","(128, 1, 1)","n/a","168"
"""


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """Installs a shell script under a tool's name."""

    def install(name: str, script: str) -> None:
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    return install


def test_a_profile_has_a_line_for_each_kernel(tool, tmp_path):
    (tmp_path / "profile.csv").write_text(PROFILE)
    tool("ncu", f'echo "$@" >>"{tmp_path}/log"; cat "{tmp_path}/profile.csv"')
    results = list(tools.profile(SETUP))
    names = ["onehot 0: apply_tiles", "onehot 1: adjoint_tiles"]
    assert [result.name for result in results[:2]] == names
    assert results[0].value == {"us": 412.345, "registers": 80}
    assert results[1].value == {"us": "n/a", "registers": 168}
    first, second = (tmp_path / "log").read_text().splitlines()
    assert first.endswith("-m benchmarks.gpu.launch onehot")
    assert second.endswith("-m benchmarks.gpu.launch fastfood")
    assert "gpu__time_duration.sum" in first and "apply_tiles" in first


def test_a_tool_that_fails_is_one_failed_line(tool):
    tool("ncu", "echo no permission; exit 1")
    results = list(tools.profile(SETUP))
    assert [result.ok for result in results] == [False, False]
    assert "no permission" in str(results[0].value)
    tool("ncu", "echo nothing was profiled")
    assert "nothing was profiled" in str(next(tools.profile(SETUP)).value)


def test_a_tool_that_hangs_is_ended_with_its_program(tool, tmp_path, monkeypatch):
    monkeypatch.setattr(tools, "SANITIZER_SECONDS", 0.5)
    tool("compute-sanitizer", f'sleep 60 & echo $! >"{tmp_path}/pid"; wait')
    began = time.monotonic()
    results = list(tools.sanitize(SETUP))
    assert time.monotonic() - began < 20
    assert [result.ok for result in results] == [False, False]
    assert "no end after" in str(results[0].value)
    status = Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}/status")
    deadline = time.monotonic() + 10
    while status.exists() and "State:\tZ" not in status.read_text():
        assert time.monotonic() < deadline, "the program outlives its tool"
        time.sleep(0.05)


def test_the_sanitizer_is_clean_or_not(tool):
    clean = 'case "$*" in *memcheck*) echo "= ERROR SUMMARY: 0 errors" ;; *) echo "%s" ;; esac'
    hazards = "= RACECHECK SUMMARY: {0} hazards displayed ({0} errors, 0 warnings)"
    tool("compute-sanitizer", clean % hazards.format(0))
    assert [result.ok for result in tools.sanitize(SETUP)] == [True, True]
    tool("compute-sanitizer", clean % hazards.format(10))
    assert [result.ok for result in tools.sanitize(SETUP)] == [True, False]
    tool("compute-sanitizer", 'echo "= ERROR SUMMARY: 10 errors"')
    assert [result.ok for result in tools.sanitize(SETUP)] == [False, False]


def test_syncs_are_counted_by_the_innermost_line_of_d90(monkeypatch):
    modes = []
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)

    def wait(progress: Progress) -> None:
        warnings.warn("called a synchronizing CUDA operation (Triggered)", stacklevel=1)
        warnings.warn("something else", stacklevel=1)

    def work() -> None:
        report = base.throttle(wait)
        report(Progress(1, 9, 0.5, 0.1))
        report(Progress(2, 9, 0.5, 0.2))
        wait(Progress(3, 9, 0.5))

    lines = steps.sync_lines(work)
    assert sorted(lines.values()) == [1, 2]
    file, _, number = next(line for line in lines if "/" in line).partition(":")
    source = Path(base.__file__).read_text().splitlines()[int(number) - 1]
    assert file == "executors/base.py" and "report(progress)" in source
    assert lines[f"{file}:{number}"] == 2
    assert any(line.startswith("test_gpu_tools.py:") for line in lines)
    assert modes == ["warn", "default"]


@pytest.mark.parametrize("name", ["onehot", "fastfood"])
def test_kernels_run_with_other_tiles_and_warps(name):
    launched = []

    def record(self, *args, **options):
        launched.append((options["TILE"], options["num_warps"]))

    rows = [RowBlock(0, torch.ones(3_000), torch.ones(3_000))]
    with patch.object(JITFunction, "run", record), speed.shaped(name, 1_024, 8):
        triton.apply(name, 100, 3_000, 0, torch.ones(100), rows)
    assert launched == [(1_024, 8)]
