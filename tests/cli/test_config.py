"""`--config FILE.toml`: option values by option name; the command line takes precedence."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import QUICK, Command


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "a study.toml"
        path.write_text(text)
        return path

    return write


def test_the_command_line_takes_precedence(
    d90: Command, file: Callable[[str], Path], ready_folder: Path, toy_folder: Path
) -> None:
    config = file(
        f"""
        model = {json.dumps(str(ready_folder))}
        task = {json.dumps(str(toy_folder))}
        dims = [10, 50]
        seeds = 3
        learning_rates = [0.01]
        baseline-learning-rates = "0.01"
        text-columns = ["text"]
        max_length = 16
        batch-size = 8
        head-seed = 1
        target_fraction = 1
        scale = "model"
        projection = "onehot"
        max_steps = 3
        output = "a report"
        quiet = true
        """
    )
    result = d90("measure", "--config", config, "--projection", "sparse", "--dims", "20")
    assert (result.code, result.err, result.out.count("\n")) == (0, "", 1)
    summary = json.loads(Path("a report/summary.json").read_text())
    assert (summary["projection"], summary["scale"], summary["target_fraction"]) == (
        "sparse",
        "model",
        1,
    )
    assert [(t["d"], t["seed"]) for t in summary["trials"]] in ([(None, 3), (20, 3)], [(None, 3)])
    assert (summary["settings"]["training"]["max_steps"], summary["settings"]["max_length"]) == (
        3,
        16,
    )


@pytest.mark.parametrize("quote", ["'{}, mrpcc'", "['{}', 'mrpcc']"])
def test_repeated_options_are_lists(
    d90: Command, file: Callable[[str], Path], ready_folder: Path, toy_folder: Path, quote: str
) -> None:
    config = file(f"models = ['{ready_folder}']\ntasks = {quote.format(toy_folder)}")
    result = d90("table", "--config", config, *QUICK)
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "unknown task or folder 'mrpcc'" in result.err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch = 3", "unknown option in '.*' 'epoch': did you mean 'epochs'?"),
        ("config = 'other.toml'", "unknown option in '.*' 'config'"),
        ("[measure]\nepochs = 3", "unknown option in '.*' 'measure'"),
        ("epochs = 'four'", "epochs is 'four': expected an integer"),
        ("epochs = 2.5", "epochs is 2.5: expected an integer"),
        ("epochs = true", "epochs is True: expected an integer"),
        ("target_fraction = '0.9'", "target_fraction is '0.9': expected a number"),
        ("quiet = 1", "quiet is 1: expected true or false"),
        ("method = 3", "method is 3: expected a string"),
        ("output = ['x']", r"output is \['x'\]: expected a string"),
        ("dims = [10, 'x']", r"dims is \[10, 'x'\]: expected a list of numbers"),
        ("dims = true", "dims is True: expected a list of numbers"),
        ("seeds = [0.5]", r"seeds is \[0.5\]: expected a list of integers"),
        ("text-columns = [1]", r"text-columns is \[1\]: expected a list of strings"),
        ("dims = '10,x'", "--dims '10,x': 'x' is not a number"),
        ("method = 'sad'", "unknown method 'sad': did you mean 'said'?"),
        ("epochs = = 3", "is not TOML: .*line 1"),
    ],
)
def test_bad_values(measure: Command, file: Callable[[str], Path], text: str, message: str) -> None:
    result = measure("--config", file(text))
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1)
    assert re.search(message, result.err)


@pytest.mark.parametrize("name", ["none.toml", "."])
def test_unreadable_files(measure: Command, name: str) -> None:
    result = measure("--config", name)
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert f"--config '{name}' cannot be read" in result.err


def test_a_file_that_is_not_text(measure: Command, tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_bytes(b"\xff\xfe")
    assert "is not UTF-8 text" in measure("--config", "x.toml", *QUICK).err
