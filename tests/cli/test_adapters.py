"""The commands on adapters, from training to a bound, and their errors."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.conftest import Command
from tests.helpers.tuned import tuned

from d90 import adapters

TRAINING = (
    *("--max-length", "16", "--batch-size", "8", "--epochs", "2", "--precision", "no"),
    *("--head-seed", "3", "--learning-rate", "0.01", "-d", "50"),
)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory, ready_folder: Path, toy_folder: Path) -> Path:
    path = tmp_path_factory.mktemp("a folder") / "toy.safetensors"
    tuned(ready_folder, toy_folder).with_codec(adapters.Float16Codec()).save(path)
    return path


def test_tune(d90: Command, ready_folder: Path, toy_folder: Path, tmp_path: Path) -> None:
    result = d90("tune", ready_folder, toy_folder, *TRAINING, "--bits", "auto", "-o", "x y.st")
    assert result.code == 0, result.err
    assert "step 24 of 24: " in result.out
    assert "float16" in result.out or "levels" in result.out
    adapter = adapters.load_adapter("x y.st")
    last = result.out.splitlines()[-1]
    size = (tmp_path / "x y.st").stat().st_size
    assert last == f"x y.st: d = 50, {size} bytes, accuracy {adapter.task.metric_value:.4f}"
    assert [path.name for path in tmp_path.iterdir()] == ["x y.st"]
    again = d90("tune", ready_folder, toy_folder, *TRAINING, "-o", "b.st", "--quiet")
    assert again.out.splitlines() == [again.out.strip()]


HELD = """
import sys
from d90.cli import main
from d90.experiments.tune import AdapterTuner
def train(*_, **__):
    print("training", flush=True)
    sys.stdin.read()
    raise KeyboardInterrupt
AdapterTuner.train = train
main(sys.argv[1:])
"""


@pytest.mark.parametrize("output", ["a.st", "link.st", "folder/../a.st"])
def test_a_second_tune_with_the_same_output_is_refused(
    d90: Command, ready_folder: Path, toy_folder: Path, tmp_path: Path, output: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.st").symlink_to("a.st")
    command = ("tune", ready_folder, toy_folder, *TRAINING, "--quiet", "-o")
    words = [sys.executable, "-c", HELD, *map(str, command), "a.st"]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "training\n"
        # Other parameters would write to the same file too.
        second = d90(*command, output, "--seed", "1")
        assert (second.code, second.out) == (2, "")
        assert second.err.startswith(
            f"error: d90 tune -o '{output}' is already being run by process {first.pid} on "
        )
        assert second.err.count("\n") == 1
        assert d90(*command, "b.st").code == 0
        first.communicate()
        assert first.returncode == 130
    assert d90(*command, output).code == 0
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"a.st", "b.st", "folder", "link.st"}
    assert (tmp_path / "link.st").is_symlink()


def test_inspect(d90: Command, file: Path) -> None:
    result = d90("inspect", file)
    assert result.code == 0
    for text in ("float16, 16.00 bits", "DID, fastfood", "projection 0, head 3", "toy task"):
        assert text in result.out
    contents = json.loads(d90("inspect", file, "--json").out)
    assert (contents["d"], len(contents["parameters"])) == (50, 50)
    assert contents["bytes"] == file.stat().st_size


def test_evaluate(d90: Command, file: Path, toy_folder: Path, ready_folder: Path) -> None:
    metric = adapters.load_adapter(file).task.metric_value
    base = ("--base", ready_folder)
    result = d90("evaluate", file, toy_folder, *base, "--quiet")
    assert float(result.out) == pytest.approx(metric, abs=5e-5)
    assert "majority (accuracy)" in d90("evaluate", file, toy_folder, *base).out


def test_predict(d90: Command, file: Path, tmp_path: Path, ready_folder: Path) -> None:
    base = ("--base", ready_folder)
    predictions = [
        json.loads(line) for line in d90("predict", file, "good", "bad", *base).out.splitlines()
    ]
    assert [prediction["text"] for prediction in predictions] == ["good", "bad"]
    for prediction in predictions:
        probabilities = prediction["probabilities"]
        assert prediction["label"] == max(probabilities, key=probabilities.__getitem__)
        assert sum(probabilities.values()) == pytest.approx(1, abs=1e-5)
    (tmp_path / "in.txt").write_text("good\n\nbad\n")
    (tmp_path / "in.csv").write_text('text,n\n"good",1\nbad,2\n')
    for name in ("in.txt", "in.csv"):
        result = d90("predict", file, "-i", name, "-o", "out.csv", *base)
        assert result.out == "out.csv: 2 predictions\n", result.err
        rows = list(csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text())))
        assert [row["text"] for row in rows] == ["good", "bad"]
        assert [row["label"] for row in rows] == [prediction["label"] for prediction in predictions]
        assert float(rows[0]["p(1)"]) == pytest.approx(
            predictions[0]["probabilities"]["1"], abs=1e-4
        )


def test_merge_similarity_combine(
    d90: Command, file: Path, tmp_path: Path, ready_folder: Path
) -> None:
    assert d90("merge", file, "-o", "merged", "--base", ready_folder).code == 0
    assert (tmp_path / "merged" / "model.safetensors").exists()
    assert d90("combine", file, file, "-o", "sum.st", "--reduction", "sum").code == 0
    assert adapters.load_adapter("sum.st").z == pytest.approx(2 * adapters.load_adapter(file).z)
    assert "+1.000" in d90("similarity", file, "sum.st").out
    assert d90("similarity", file, "sum.st", "--csv").out.startswith("file,toy,sum.st\n")
    assert "unknown" in d90("inspect", "sum.st").out


def test_bound(d90: Command, file: Path, toy_folder: Path, ready_folder: Path) -> None:
    base = ("--base", ready_folder)
    result = d90("bound", file, "--task", toy_folder, *base)
    assert result.code == 0, result.err
    for text in ("total", "majority class", "vacuous", "PAC-Bayes kl", "fixed before"):
        assert text in result.out
    certificate = json.loads(d90("bound", file, "--task", toy_folder, *base, "--json").out)
    assert (certificate["examples"], certificate["delta"]) == (96, 0.05)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("inspect", "nothing.st"), "cannot be read: No such file"),
        (("inspect", "{task}/train.jsonl"), "it is not an adapter"),
        (("predict", "{file}"), "either texts or a file"),
        (("predict", "{file}", "a", "-i", "x.txt"), "either texts or a file"),
        (("predict", "{file}", "-i", "x.docx"), "expected one of .txt, .jsonl"),
        (("predict", "{file}", "-i", "x.txt"), "cannot be read"),
        (("predict", "{file}", "a", "--format", "xml"), "unknown format 'xml'"),
        (("predict", "{file}", "a", "-o", "no/a.csv", "--base", "{model}"), "cannot be written"),
        (("evaluate", "{file}", "wordnet-hypernym", "--base", "{model}"), "unknown column of"),
        (("evaluate", "{file}", "{task}", "--base", "minilm-l6x"), "minilm-l6"),
        (
            ("bound", "{file}", "--task", "{task}", "--base", "{model}", "--delta", "2"),
            "delta is 2",
        ),
        (("merge", "{file}", "-o", "{task}"), "is there already"),
        (("combine", "{file}", "-o", "x.st"), "give two or more"),
        (("tune", "{model}", "{task}", "-o", "x.st", "--bits", "9"), "bits '9'"),
        (("tune", "{model}", "{task}", "-o", "x.st", "-d", "0"), "0"),
        (("tune", "{model}", "{task}", "-o", "x.st", "--tolerance", "2"), "tolerance 2"),
    ],
)
def test_bad_input_is_one_line(
    d90: Command,
    file: Path,
    ready_folder: Path,
    toy_folder: Path,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    places = {"file": file, "task": toy_folder, "model": ready_folder}
    result = d90(*(argument.format(**places) for argument in arguments))
    assert result.code == 2
    assert result.out == ""
    assert message in result.err
    assert result.err.count("\n") == 1
