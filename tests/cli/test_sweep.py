"""`d90 table`, `curves`, `scaling`, `trajectory` and `generalization`, from end to end."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest

from d90.cli.sweep import split
from d90.pretraining.checkpoints import CHECKPOINTS, SUMMARY, checkpoint_name

from .conftest import QUICK, Command

DIMS = ("--dims", "10,50", "--projection", "onehot")


@pytest.fixture
def trained(tmp_path: Path, ready_folder: Path) -> Path:
    """A folder as `d90 pretrain` leaves it, with the tiny model after 0 and after 100 steps."""
    folder = tmp_path / "a run"
    history = []
    for step, loss in ((0, 3.0), (100, 1.0)):
        shutil.copytree(ready_folder, folder / CHECKPOINTS / checkpoint_name(step))
        counts = {"step": step, "tokens": 10 * step, "seconds": 1.0}
        history.append({**counts, "train_loss": None, "validation_loss": loss})
    (folder / SUMMARY).write_text(json.dumps({"history": history, "settings": {}}))
    return folder


def rows(file: str) -> list[dict[str, str]]:
    return list(csv.DictReader(Path(file).open()))


def test_table_and_then_generalization(d90: Command, ready_folder: Path, toy_folder: Path) -> None:
    result = d90("table", ready_folder, "--tasks", toy_folder, *QUICK, *DIMS, "--output", "out 1")
    assert (result.code, result.err) == (0, "")
    assert "study 2 of 2" in result.out and "report: out 1/index.html" in result.out
    (row,) = rows("out 1/table1.csv")
    assert list(row) == ["model", "toy task SAID", "toy task DID"]
    studies = sorted(Path("out 1/studies").iterdir())
    assert [(path / "summary.json").is_file() for path in studies] == [True, True]
    page = Path("out 1/index.html").read_text()
    assert all(f"studies/{path.name}/index.html" in page for path in studies)
    again = d90("table", ready_folder, "--tasks", toy_folder, *QUICK, *DIMS, "--output", "out 1")
    assert again.out.count("trials already finished: 3") == 2 and "rate 0.01, seed" not in again.out

    result = d90("generalization", "out 1", "--output", "out 2")
    assert (result.code, result.err) == (0, "")
    assert len(rows("out 2/studies.csv")) == 2
    quiet = d90("generalization", "out 1", "--output", "out 2", "--quiet")
    assert quiet.out.count("\n") == 1


def test_scaling_and_curves_share_trials(
    d90: Command, ready_folder: Path, tiny_folder: Path, toy_folder: Path
) -> None:
    models = (ready_folder, tiny_folder)
    result = d90("scaling", *models, "--tasks", toy_folder, *QUICK, *DIMS, "--quiet")
    assert (result.code, result.err, result.out.count("\n")) == (0, "", 1)
    assert len(rows("reports/scaling/studies.csv")) == 2
    result = d90("curves", *models, "--tasks", toy_folder, "--methods", "said", *QUICK, *DIMS)
    assert "trials already finished" in result.out and "ok (0 s)" not in result.out
    assert Path("reports/curves/figure1.png").stat().st_size > 1000


def test_trajectory(d90: Command, trained: Path, toy_folder: Path) -> None:
    options = ("--tasks", toy_folder, *QUICK, *DIMS)
    result = d90("trajectory", trained, *options)
    assert (result.code, result.err) == (0, "")
    figure = rows("reports/trajectory-a run/figure2.csv")
    assert [row["step"] for row in figure] == ["0", "100"]
    assert [float(row["perplexity"]) for row in figure] == pytest.approx([20.0855369, 2.7182818])
    result = d90("trajectory", trained, *options, "--checkpoints", "100", "--output", "one")
    assert [row["step"] for row in rows("one/figure2.csv")] == ["100"]


def test_dry_run_trains_nothing(d90: Command, ready_folder: Path, toy_folder: Path) -> None:
    result = d90("table", ready_folder, "--tasks", toy_folder, *QUICK, *DIMS, "--dry-run")
    assert result.code == 0
    assert "in total, at most: 6 trials" in result.out
    assert not Path("d90.db").exists() and not Path("reports").exists()


def test_tasks_are_separated_by_commas(tmp_path: Path) -> None:
    folder = tmp_path / "a, b"
    folder.mkdir()
    assert split(["mrpc,qqp", str(folder), "sst2"]) == ["mrpc", "qqp", str(folder), "sst2"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("table", "MODEL", "--tasks", "mrpcc"), "unknown task or folder 'mrpcc'"),
        (("table", "./nothing", "--tasks", "wordnet-hypernym"), "there is no such folder"),
        (("table", "MODEL", "--tasks", "TASK", "--methods", "sad"), "did you mean 'said'"),
        (("table", "MODEL", "MODEL", "--tasks", "TASK"), "duplicate model"),
        (("scaling", "MODEL"), "Missing option '--tasks'"),
        (("trajectory", "TASK", "--tasks", "TASK"), "is no pre-training folder"),
        (("generalization", "TASK"), "has no summary.json at any depth"),
        (("generalization", "nowhere"), "cannot read 'nowhere'"),
        (("generalization", "TASK", "--runs", "all"), "expected best or d90"),
    ],
)
def test_bad_input(
    d90: Command, ready_folder: Path, toy_folder: Path, arguments: tuple[str, ...], message: str
) -> None:
    places = {"MODEL": str(ready_folder), "TASK": str(toy_folder)}
    result = d90(*(places.get(word, word) for word in arguments))
    assert (result.code, result.out) == (2, "")
    assert message in result.err and result.err.count("\n") == 1


def test_a_missing_checkpoint(d90: Command, trained: Path, toy_folder: Path) -> None:
    result = d90("trajectory", trained, "--tasks", toy_folder, "--checkpoints", "0,7")
    assert result.code == 2 and "has no checkpoint at step 7. It has: 0, 100." in result.err
