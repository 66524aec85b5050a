"""`accelerate launch -m d90`: several processes, of which rank 0 prints."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.conftest import QUICK, Command, Result

ACCELERATE = (
    *("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"),
    *("--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"),
)
TORCHRUN = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone")

RUN_OUT_OF_MEMORY = """
import os
from d90 import cli
from d90.executors import runner

train = runner.train

def run_out(*arguments, **options):
    if os.environ["RANK"] == "1":
        raise MemoryError("nothing left")
    return train(*arguments, **options)

runner.train = run_out
cli.main()
"""


def launch(*arguments: object, folder: Path) -> Result:
    result = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "100", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    return Result(result.returncode, result.stdout, result.stderr)


@pytest.mark.slow
def test_two_processes_measure_the_same(
    measure: Command, ready_folder: Path, toy_folder: Path, tmp_path: Path
) -> None:
    search = (*QUICK, "--dims", "10,50", "--output")
    code, out, err = launch(
        *(*ACCELERATE, "-m", "d90", "measure", ready_folder, toy_folder, *search, "two"),
        folder=tmp_path,
    )
    assert code == 0, err
    assert measure("--dims", "10,50", "--output", "one", "--store", "one.db").code == 0
    one, two = (json.loads((tmp_path / x / "summary.json").read_text()) for x in ("one", "two"))
    assert (two["d90"], two["status"]) == (one["d90"], one["status"])
    assert out.count("full fine-tuning") == out.count("report: ") == 1
    assert "d = 50" in out
    assert "d90" not in err  # The launcher may print.


@pytest.mark.slow
def test_a_rank_out_of_memory_ends_the_study(
    ready_folder: Path, toy_folder: Path, tmp_path: Path
) -> None:
    script = tmp_path / "run.py"
    script.write_text(RUN_OUT_OF_MEMORY)
    code, out, err = launch(
        *(*TORCHRUN, script, "measure", ready_folder, toy_folder, *QUICK, "--dims", "10"),
        folder=tmp_path,
    )
    assert code != 0
    assert "MemoryError: nothing left" in err
    assert "full fine-tuning" not in out


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("inspect", "file"), "d90 inspect runs in one process"),
        (("measure", "model", "task", "--dry-run"), "--dry-run runs in one process"),
        (("table", "model", "--tasks", "mrpc", "--dims", "a"), "--dims"),
    ],
)
def test_rank_0_prints_the_error(
    d90: Command,
    monkeypatch: pytest.MonkeyPatch,
    rank: int,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", str(rank))
    slept: list[float] = []
    monkeypatch.setattr("d90.cli.sleep", slept.append)
    code, out, err = d90(*arguments)
    assert (code, out) == (2, "")
    assert (message in err, len(slept)) == (rank == 0, rank)
