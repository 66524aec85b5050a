"""Folders of a pretraining run that are damaged, and disks that fill up under one."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cli.conftest import Command, Result, d90  # noqa: F401  (a fixture)
from tests.helpers.disks import missing, small_disk

OPTIONS = (
    *("--size", "nano", "--vocab-size", "300", "--max-steps", "2", "--max-length", "16"),
    *("--batch-size", "2", "--precision", "no", "--validation-fraction", "0.2"),
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("corpus") / "corpus.txt"
    file.write_text("\n\n".join(f"a text of some words {i}" for i in range(200)))
    return file


def check(result: Result, message: str) -> None:
    assert (result.code, result.err.count("\n")) == (2, 1), result
    assert result.err.startswith("error: ") and message in result.err, result


@pytest.mark.parametrize("megabytes", [1, 2, 3])
def test_a_full_disk(
    d90: Command,  # noqa: F811
    corpus: Path,
    megabytes: int,
) -> None:
    """It is full at another file each time; with room, the same command goes on to its end."""
    if why := missing():
        pytest.skip(why)
    with small_disk(megabytes) as disk:
        check(d90("pretrain", corpus, "-o", disk.folder / "out", *OPTIONS), "No space left on")
    with small_disk(16) as disk:
        disk.fill()
        check(d90("pretrain", corpus, "-o", disk.folder / "out", *OPTIONS), "No space left on")
        disk.make_room()
        assert d90("pretrain", corpus, "-o", disk.folder / "out", *OPTIONS).code == 0


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, corpus: Path, request: pytest.FixtureRequest
) -> Path:
    from d90.pretraining.plan import plan_pretraining
    from d90.pretraining.pretrain import pretrain

    folder = tmp_path_factory.mktemp("run") / "out"
    job = plan_pretraining(
        [str(corpus)],
        size="nano",
        vocab_size=300,
        max_steps=2,
        max_length=16,
        batch_size=2,
        precision="no",
        validation_fraction=0.2,
    )
    pretrain(job, folder)
    return folder


def text(name: str, content: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(content)


def change(**values: object) -> Callable[[Path], object]:
    def apply(folder: Path) -> None:
        file = folder / "pretraining.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **values}))

    return apply


DAMAGES: dict[str, Callable[[Path], object]] = {
    "summary empty": text("pretraining.json", ""),
    "summary of digits": text("pretraining.json", "9" * 5000),
    "summary nested": text("pretraining.json", "[" * 100_000),
    "summary a list": text("pretraining.json", "[]"),
    "settings a list": change(settings=[]),
    "history a number": change(history=3),
    "history of numbers": change(history=[3]),
    "history without keys": change(history=[{}]),
    "history infinite": change(
        history=[{"step": 0, "tokens": 0, "train_loss": None, "validation_loss": 1e9, "seconds": 1}]
    ),
    "corpus a list": change(corpus=[]),
    "corpus without keys": change(corpus={}),
    "D a text": change(D="x"),
    "versions of numbers": change(versions={"d90": 1}),
    "tokens cut off": lambda folder: os.truncate(folder / "tokens-train.bin", 100),
    "tokens removed": lambda folder: (folder / "tokens-validation.bin").unlink(),
    "tokenizer removed": lambda folder: (folder / "tokenizer.json").unlink(),
    "tokenizer empty": text("tokenizer.json", "{}"),
    "state empty": text("state.safetensors", ""),
    "state of text": text("state.safetensors", "text" * 99),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_folders(
    d90: Command,  # noqa: F811
    corpus: Path,
    finished: Path,
    tmp_path: Path,
    name: str,
) -> None:
    shutil.copytree(finished, tmp_path / "out")
    DAMAGES[name](tmp_path / "out")
    check(d90("pretrain", corpus, "-o", "out", *OPTIONS), "'")
