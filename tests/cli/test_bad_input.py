"""Bad input: one line on standard error, exit code 2, nothing trained, no store made."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from d90.executors.runner import TrialRunner

from .conftest import QUICK, Command, Result

GOOD = [{"text": "good", "label": 1}, {"text": "bad", "label": 0}]


@pytest.fixture(autouse=True)
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TrialRunner, "run", lambda *_: pytest.fail("a trial was started"))


def check(result: Result, message: str) -> None:
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    assert re.search(message, result.err)
    assert not Path("d90.db").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--method sad", "unknown method 'sad': did you mean 'said'?"),
        ("--groups layers", "unknown groups 'layers': did you mean 'layer'?"),
        ("--projection fastfod", "unknown projection 'fastfod': did you mean 'fastfood'?"),
        ("--scale tensr", "unknown scale 'tensr': did you mean 'tensor'?"),
        ("--protocol bisection", "unknown protocol 'bisection': did you mean 'bisect'?"),
        ("--metric acuracy", "unknown metric 'acuracy': did you mean 'accuracy'?"),
        ("--dtype float", "unknown dtype 'float': did you mean 'float32'?"),
        ("--precision fp16", "unknown precision 'fp16': did you mean 'bf16'?"),
        ("--text-columns texte", "unknown column .* 'texte': did you mean 'text'?"),
        ("--label-column lable", "unknown column .* 'lable': did you mean 'label'?"),
        ("--dims 4 --method said", "d = 4 is too small for SAID with groups = 'layer': 4 of"),
        ("--dims 41 --method said --groups tensor", "with groups = 'tensor': 41 of"),
        ("--dims 5555", "d = 5555 is larger than D = 5554"),
        ("--protocol bisect", "d = 4000000 is larger than D = 5554"),
        ("--dims 1,x", "--dims '1,x': 'x' is not a number"),
        ("--dims 0", "dims has 0"),
        ("--dims 5,5", "dims has 5 twice"),
        ("--dims 5 --protocol grid", "'grid' takes no dims"),
        ("--protocol list", "'list' needs dims"),
        ("--protocol grid --num-dims 1000000000000", "num_dims is 1000000000000"),
        (f"--max-dim 1{'0' * 400}", "max_dim has 1"),
        ("--learning-rates nan", "--learning-rates 'nan': 'nan' is not a number"),
        ("--learning-rates 0", "learning_rates has 0.0"),
        ("--baseline-learning-rates -1", "baseline_learning_rates has -1.0"),
        ("--seeds 0.5", "--seeds '0.5': 0.5 is not an integer"),
        ("--seeds -1", "seeds has -1"),
        (f"--seeds {2**64}", f"seeds has {2**64}"),
        (f"--head-seed {2**64}", f"head_seed has {2**64}"),
        ("--target-fraction nan", "target_fraction is nan"),
        ("--epochs 0", "epochs 0"),
        ("--batch-size 0", "batch_size 0"),
        ("--dims 10 --max-length 1", "max_length 1"),
        ("--dims 10 --max-length 1000", "max_length 1000: model .* takes at most 32 tokens"),
        ("--max-train-samples 0", "max_train_samples must be at least 1"),
        ("--max-eval-samples -3", "max_eval_samples must be at least 1"),
        ("--epochs x", "--epochs.*See d90 measure --help"),
        ("--epcohs 3", "--epcohs.*--epochs.*See d90 measure --help"),
        ("word", "unexpected extra argument.*See d90 measure --help"),
        ("--dims 10 --store folder/", "'folder/' is a folder"),
        ("--dims 10 --store file", "'file' is not an SQLite database"),
        ("--dims 10 --store nothing://x", "'nothing://x' is neither an SQLite file nor"),
    ],
)
def test_options(measure: Command, options: str, message: str) -> None:
    Path("folder").mkdir()
    Path("file").write_text("not a database")
    check(measure(*options.split()), message)


def test_unwritable_output(measure: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    result = measure("--dims", "10", "--output", "file/report", "--store", "a.db")
    check(result, "--output 'file/report' cannot be written")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("minilm-l7", "model 'minilm-l7' .* Did you mean 'minilm-l6'?"),
        ("no/such/model", "model 'no/such/model': there is no such folder"),
        (".", "model folder '.' has no config.json"),
    ],
)
def test_models(d90: Command, toy_folder: Path, name: str, message: str) -> None:
    check(d90("measure", name, toy_folder, *QUICK, "--dims", "10"), message)


@pytest.mark.parametrize(
    ("train", "validation", "message"),
    [
        (GOOD, [{"text": "fair", "label": 2}], "row 1: label 2 is out of range, expected 0..1"),
        (GOOD, [], "validation.jsonl: empty split"),
        ([], GOOD, "train.jsonl: empty split"),
        (GOOD, None, "no validation file in"),
        (GOOD[:1], GOOD, "only one class"),
        ([{"words": "good", "label": 1}], GOOD, "no text column found by name"),
    ],
)
def test_data(
    d90: Command,
    ready_folder: Path,
    train: Sequence[object] | None,
    validation: Sequence[object] | None,
    message: str,
) -> None:
    Path("data").mkdir()
    for name, rows in (("train", train), ("validation", validation)):
        if rows is not None:
            lines = "".join(json.dumps(row) + "\n" for row in rows)
            Path(f"data/{name}.jsonl").write_text(lines)
    check(d90("measure", ready_folder, "./data", *QUICK, "--dims", "10"), message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("mesure", "No such command 'mesure'.*measure"),
        ("measure", "Missing argument 'MODEL'"),
        ("measure x", "Missing argument 'TASK'"),
        ("measure minilm-l6 mrcp", "unknown task or folder 'mrcp': did you mean 'mrpc'?"),
        ("measure minilm-l6 ./mrpc", "no such folder: 'mrpc'"),
        ("report", "Missing argument 'STUDY'"),
        ("report nothing", "cannot read 'nothing'"),
        ("report .", "cannot read 'summary.json'"),
    ],
)
def test_arguments(d90: Command, arguments: str, message: str) -> None:
    check(d90(*arguments.split()), message)


def test_names_are_checked_before_the_task_is_loaded(
    measure: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        pytest.fail("the task was loaded")

    monkeypatch.setattr("d90.experiments.problem.load_task", fail)
    check(measure("--projection", "fastfod"), "unknown projection")


def test_dimensions_are_checked_before_the_weights_are_loaded(
    measure: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "d90.models.loading.load", lambda *_, **__: pytest.fail("the model was loaded")
    )
    for scale in ("tensor", "rms", "vectors"):
        check(measure("--dims", "9999", "--scale", scale), "d = 9999 is larger than D")
