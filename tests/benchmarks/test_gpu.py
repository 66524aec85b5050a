"""The check of a GPU, rehearsed without one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from benchmarks.gpu import report
from benchmarks.gpu.__main__ import main
from benchmarks.gpu.part import Part, Result, Setup
from benchmarks.gpu.parts import PARTS
from benchmarks.gpu.runner import run_parts

SETUP = Setup("cpu", Path(".gpu"))


def parts(*functions: str, seconds: float = 30.0) -> list[Part]:
    names = enumerate(functions)
    return [Part(i, name, seconds, f"tests.helpers.gpu_parts:{name}") for i, name in names]


def run(
    parts: list[Part], setup: Setup = SETUP, *, limit: float = 60.0, grace: float = 15.0
) -> dict[str, Result]:
    found: list[Result] = []
    run_parts(parts, setup, found.append, limit=limit, grace=grace)
    return {f"{result.part} {result.name}": result for result in found}


@pytest.mark.slow
def test_a_rehearsal_runs_every_part(tmp_path: Path) -> None:
    file = tmp_path / "gpu.jsonl"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", "--device", "cpu", "--output", str(file)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(["src", "."])},
    )
    assert done.returncode == 0, done.stdout + done.stderr[-5000:]
    results = report.read(file)
    assert [part.number for part in PARTS] == list(range(16))
    assert {result.part for result in results} == set(range(16))
    names = [(result.part, result.name) for result in results]
    assert len(set(names)) == len(names)


def test_parts_that_fail_raise_and_die_cost_only_themselves() -> None:
    found = run(parts("work", "fail", "throw", "work", "die", "work"))
    assert [name for name, result in found.items() if result.ok is False] == [
        "1 first",
        "2 exception",
        "4 process",
    ]
    assert found["1 second"].ok
    assert "a broken part" in str(found["2 exception"].value)
    assert found["2 before"].ok and found["4 before"].ok
    assert "SIGSEGV" in str(found["4 process"].value)
    first, second, third = (found[f"{part} figures"].value for part in (0, 3, 5))
    assert first == second != third  # One process runs all, until it dies.


def test_a_gpu_that_is_broken_gets_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here it is broken from the start: there is none."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    found = run(parts("work", "work"), Setup("cuda", SETUP.folder))
    wrong = [name for name, result in found.items() if result.ok is False]
    assert wrong == [
        f"{part} {name}" for part in (0, 1) for name in ("exception", "GPU afterwards")
    ]
    assert found["0 figures"].value != found["1 figures"].value
    assert found["1 check"].ok


def test_parts_that_take_too_long_are_stopped() -> None:
    found = run(parts("doze", "hang", "work", seconds=1.0), grace=1.0)
    assert found["0 before"].ok and found["1 before"].ok
    assert "time limit" in str(found["0 exception"].value)
    assert "killed" in str(found["1 process"].value)
    assert found["2 check"].ok


def test_what_does_not_begin_within_the_limit_is_said() -> None:
    found = run(parts("doze", "work"), limit=2.0)
    assert [name for name, result in found.items() if result.ok is False] == [
        "0 process",
        "1 not run",
    ]


def test_a_module_that_cannot_be_imported_costs_its_part() -> None:
    found = run([Part(0, "none", 30, "benchmarks.gpu.nothing:check"), *parts("fail", "work")[1:]])
    assert "ModuleNotFoundError" in str(found["0 exception"].value)
    assert found["1 check"].ok


def test_a_cut_file_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "gpu.jsonl"
    output = report.OutputFile(file)
    output.append(Result("a", {"ms": 0.25}, True, "<= 1 ms", 0, 1.5))
    output.append(Result("b", "x" * 300, None, "", 3))
    output.append(Result("c", 2.0, True, "2", 3))
    file.write_bytes(file.read_bytes()[:-10])
    assert main(["--report", str(file)]) == 0
    printed = capsys.readouterr().out
    assert "ms 0.25" in printed and "[<= 1 ms]" in printed and "c: " not in printed
    output = report.OutputFile(file)
    output.append(Result("d", 3.0, False, "2", 3))
    assert main(["--report", str(file)]) == 1


def test_a_child_that_is_stopped_takes_its_processes_along() -> None:
    """The GPU must be free for the next child."""
    found = run(parts("leave_a_process", seconds=1.0), grace=1.0)
    pid = found["0 process of its own"].value
    assert isinstance(pid, int)
    deadline = time.monotonic() + 10
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(pid)


def is_running(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status")
    return status.exists() and "State:\tZ" not in status.read_text()


@pytest.mark.parametrize("chosen", ["99", "3-", "x", ""])
def test_unknown_parts_are_refused(chosen: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as refusal:
        main(["--output", str(tmp_path / "out"), "--parts", chosen])
    assert refusal.value.code == 2
    assert not list(tmp_path.iterdir())
