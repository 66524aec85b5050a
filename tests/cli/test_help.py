"""Help, and what importing the package loads."""

from __future__ import annotations

import subprocess
import sys

import pytest

import d90 as package

from .conftest import Command

OPTIONS = (
    *("--method", "--groups", "--projection", "--scale"),
    *("--protocol", "--dims", "--min-dim", "--max-dim", "--num-dims", "--seeds"),
    *("--learning-rates", "--baseline-learning-rates", "--baseline-epochs", "--target-fraction"),
    *("--epochs", "--max-steps", "--batch-size", "--gradient-accumulation-steps"),
    *("--gradient-checkpointing", "--max-length", "--dtype", "--precision"),
    *("--max-train-samples", "--max-eval-samples", "--metric", "--text-columns"),
    *("--label-column", "--head-seed"),
    *("--store", "--output", "--config", "--dry-run", "--quiet", "--executor", "--workers"),
)


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_help_fits_the_terminal(columns: int) -> None:
    """In a process of its own: rich reads the width when the program starts."""
    code = "import sys; from d90.cli import main; main(sys.argv[1:])"
    result = subprocess.run(
        [sys.executable, "-c", code, "measure", "--help"],
        env={"COLUMNS": str(columns), "PYTHONPATH": ":".join(sys.path), "PYTHONUTF8": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stderr == ""
    assert max(map(len, result.stdout.splitlines())) <= columns
    if columns >= 80:
        assert set(OPTIONS) <= set(result.stdout.replace("│", " ").split())


def test_no_arguments_and_version(d90: Command) -> None:
    assert "measure" in d90().out
    assert d90("--version") == (0, f"{package.__version__}\n", "")


def test_importing_the_package_loads_no_torch() -> None:
    code = "import d90, d90.cli, sys; print({'torch', 'pandas', 'matplotlib'} & {*sys.modules})"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "set()\n"
