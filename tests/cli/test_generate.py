"""The commands on an adapter of generation."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from tests.cli.conftest import Command
from tests.helpers import tiny
from tests.helpers.tuned import tuned

from d90 import adapters
from d90.adapters import generate as generation
from d90.training import TrainConfig


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "llama"
    tiny.write_language_model(folder, "llama")
    return folder


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory, model: Path, completions: Path) -> Path:
    path = tmp_path_factory.mktemp("adapters") / "completions.st"
    training = TrainConfig(epochs=4, batch_size=8, precision="no")
    run = tuned(model, completions, d=200, rate=0.1, projection="onehot", training=training)
    run.with_codec(adapters.Float16Codec()).save(path)
    return path


def test_from_training_to_a_checkpoint(
    d90: Command,
    model: Path,
    completions: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = ("--epochs", "2", "--batch-size", "8", "--max-length", "16", "--precision", "no")
    result = d90("tune", model, completions, *options, "-d", "200", "-o", "a.st")
    assert result.code == 0, result.err
    size = (tmp_path / "a.st").stat().st_size
    metric = adapters.load_adapter("a.st").task.metric_value
    last = f"a.st: d = 200, {size} bytes, token_accuracy {metric:.4f}"
    assert result.out.splitlines()[-1] == last and size < 1000
    out = d90("inspect", "a.st").out
    assert "completions: prompt; at most 16 tokens" in out and "generation" in out
    contents = json.loads(d90("inspect", "a.st", "--json").out)
    assert (contents["kind"], contents["labels"], contents["d"]) == ("generation", [], 200)
    base = ("--base", model)
    result = d90("evaluate", "a.st", completions, *base, "--quiet")
    assert float(result.out) == pytest.approx(metric, abs=5e-5)
    header, row = d90("evaluate", "a.st", completions, *base).out.splitlines()
    names = ["split", "examples", "token_accuracy", "exact_match", "nll", "initial"]
    assert header.split()[:6] == names and len(row.split()) == 6
    monkeypatch.setenv("COLUMNS", "80")
    assert "validation " in d90("evaluate", "a.st", completions, *base).out
    result = d90("merge", "a.st", "-o", "plain", *base)
    assert result.out == "plain: load it with AutoModelForCausalLM.from_pretrained\n"


def test_generate(d90: Command, file: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = ("--base", model)
    good = d90("generate", file, "good word1", *base)
    assert (good.code, good.out, good.err) == (0, "great good\n", "")
    monkeypatch.setattr("sys.stdin", io.StringIO("word1 awful\n"))
    both = d90("generate", file, "good word1", "-", *base)
    assert both.out == "great good\nbad\n"
    assert both.err == "> good word1\n> word1 awful\n"
    assert d90("generate", file, "good", "bad", *base, "--quiet").err == ""
    short = d90("generate", file, "good word1", *base, "--max-new-tokens", "1")
    assert short.out == "great\n"
    hot = ("--temperature", "9", "--max-new-tokens", "9", "--seed")
    drawn = [d90("generate", file, "good", *base, *hot, seed).out for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_an_interrupted_line_ends(
    d90: Command, file: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, on_text: generation.OnText, **__: object) -> str:
        on_text("great")
        raise KeyboardInterrupt

    monkeypatch.setattr(generation, "generate", interrupted)
    result = d90("generate", file, "good", "bad", "--base", model)
    assert (result.code, result.out) == (130, "great\n")
    assert result.err.splitlines()[0] == "> good" and result.err.count("\n") == 2


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (("predict", "{file}", "good"), "complete prompts with it, by d90 generate"),
        (("bound", "{file}", "--task", "{task}"), "of generation: it has none"),
        (("generate", "{classifier}", "good"), "predict with it, by d90 predict"),
        (("generate", "{file}"), "Missing argument 'PROMPT...'"),
        (("generate", "{file}", "good", "--chat", "--base", "{base}"), "has no chat template"),
        (("generate", "{file}", "good", "--temperature", "-1"), "'--temperature'"),
        (("generate", "{file}", "good", "--temperature", "nan", "--base", "{base}"), "temperature"),
        (("generate", "{file}", "good"), "cannot be found by that name"),
    ],
)
def test_errors(
    d90: Command,
    file: Path,
    model: Path,
    ready_folder: Path,
    toy_folder: Path,
    tmp_path: Path,
    command: tuple[str, ...],
    expected: str,
) -> None:
    paths = {"file": file, "task": toy_folder, "base": model, "classifier": ""}
    if "{classifier}" in command:
        tuned(ready_folder, toy_folder).save(tmp_path / "classifier.st")
        paths["classifier"] = tmp_path / "classifier.st"
    result = d90(*(word.format_map(paths) for word in command))
    assert (result.code, result.out) == (2, "")
    assert expected in result.err and result.err.count("\n") == 1
