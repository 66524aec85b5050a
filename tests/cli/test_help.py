"""Help, also where there is little room."""

from __future__ import annotations

import subprocess
import sys

import pytest

import d90 as package

from .conftest import Command


@pytest.mark.parametrize(
    ("columns", "arguments"),
    [(40, []), (40, ["measure"]), (40, ["report"]), (80, ["measure"]), (120, ["measure"])],
)
def test_help_fits_the_terminal(columns: int, arguments: list[str]) -> None:
    """In a process of its own: how help looks is decided when the program starts."""
    code = "import sys; from d90.cli import main; main(sys.argv[1:])"
    said = subprocess.run(
        [sys.executable, "-c", code, *arguments, "--help"],
        env={"COLUMNS": str(columns), "PYTHONPATH": ":".join(sys.path), "PYTHONUTF8": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stderr == ""
    assert max(map(len, said.stdout.splitlines())) <= columns
    if arguments == ["measure"]:
        options = "--method --groups --projection --scale --protocol --dims --min-dim --max-dim"
        options += (
            " --learning-rates --baseline-learning-rates --epochs --max-steps --batch-size --dtype"
        )
        options += " --max-length --max-train-samples --max-eval-samples --target-fraction"
        options += " --metric --seeds"
        options += " --store --output --config --quiet --dry-run"
        assert set(options.split()) <= set(said.stdout.replace("│", " ").split())


def test_no_arguments_and_version(d90: Command) -> None:
    assert "measure" in d90().out
    assert d90("--version") == (0, f"{package.__version__}\n", "")


def test_importing_the_package_loads_no_torch() -> None:
    code = "import d90, d90.cli, sys; print({'torch', 'pandas', 'matplotlib'} & {*sys.modules})"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "set()\n"


def test_public_names() -> None:
    import d90.experiments.study

    assert {getattr(package, name) is not None for name in package.__all__} == {True}
    assert package.measure is d90.experiments.study.measure
    assert set(package.__all__) <= set(dir(package))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        package.nothing  # noqa: B018
