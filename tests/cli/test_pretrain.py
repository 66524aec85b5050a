"""`d90 pretrain`: what it says, what it leaves, and bad input."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from d90.cli.progress import pretrain as pretrain_progress
from d90.pretraining import pretrain
from d90.pretraining.checkpoints import checkpoints

from .conftest import Command

QUICK = (
    *("--size", "nano", "--vocab-size", "270", "--validation-fraction", "0.2", "--precision", "no"),
    *("--max-length", "16", "--batch-size", "2", "--max-steps", "4", "--max-eval-blocks", "4"),
    *("--checkpoints", "0,2", "--eval-every", "4"),
)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    words = ["the cat sleeps", "the dog barks", "a bird sings at night", "rivers flow"]
    file = tmp_path / "texts.txt"
    file.write_text("\n\n".join(f"{words[i % 4]} and {i} others" for i in range(60)))
    return file


def test_a_run_and_the_same_command_again(d90: Command, corpus: Path) -> None:
    said = d90("pretrain", corpus, "-o", "a run", *QUICK)
    assert (said.code, said.err) == (0, "")
    first, *updates, last = said.out.splitlines()
    assert re.match(r"D = [\d,]+, \d+ tokens; \d+ documents with [\d,]+ tokens to train", first)
    assert [line.split()[1] for line in updates] == ["0", "2", "4"]
    assert re.match(r"a run: held-out perplexity [\d.]+ after 4 updates: done$", last)
    assert [step for step, _ in checkpoints("a run")] == [0, 2, 4]
    again = d90("pretrain", corpus, "-o", "a run", *QUICK, "--quiet")
    assert (again.code, again.err, again.out) == (0, "", last + "\n")
    changed = d90("pretrain", corpus, "-o", "a run", *QUICK, "--seed", "1")
    check(changed, "'a run' holds another run (seed was 0 and is now 1)")


def test_an_interrupt(d90: Command, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pretrain_progress.Display, "on_progress", interrupt)
        said = d90("pretrain", corpus, "-o", "run", *QUICK)
    assert (said.code, said.err.count("\n")) == (130, 1)
    assert "the same command goes on" in said.err
    assert "after 4 updates: done" in d90("pretrain", corpus, "-o", "run", *QUICK).out


def test_minutes(d90: Command, corpus: Path) -> None:
    said = d90("pretrain", corpus, "-o", "run", *QUICK, "--max-minutes", "1e-9", "--quiet")
    assert "after 1 updates: stopped, the same command goes on (4 in all)" in said.out


def test_plan_writes_nothing(d90: Command, corpus: Path) -> None:
    said = d90(
        "pretrain", corpus, "-o", "run", *QUICK, "--sequence-length-schedule", "8:2", "--dry-run"
    )
    assert (said.code, said.err) == (0, "")
    assert "pieces: 8 tokens to update 2, then whole blocks of 16\n" in said.out
    assert re.search(r"^D = 23\d,\d{3}, at most 270 tokens$", said.out, re.M)
    assert "updates: 4 of 32 tokens, 128 in all" in said.out
    assert "texts.txt (1 files" in said.out
    assert not Path("run").exists()


def test_options_from_a_file(d90: Command, corpus: Path) -> None:
    Path("run.toml").write_text(
        f"corpus = {json.dumps(corpus.name)}\noutput = 'from the file'\nsize = 'base'\n"
        "checkpoints = '0,1'\nquiet = true\n"
    )
    said = d90("pretrain", "--config", "run.toml", *QUICK, "--max-steps", "2")
    assert (said.code, said.err, said.out.count("\n")) == (0, "", 1)
    assert [step for step, _ in checkpoints("from the file")] == [0, 2]


def check(said: tuple[int, str, str], message: str) -> None:
    code, out, err = said
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: ")
    assert message in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--size mico", "unknown size 'mico': did you mean 'micro'?"),
        ("--model-config none.toml", "size and model_config: give one of them"),
        ("--vocab-size 100", "vocab_size 100: at least 261"),
        ("--tokenizer .", "vocab_size and tokenizer: give one of them"),
        ("--validation-fraction 1", "validation_fraction 1.0: a share between 0 and 1"),
        ("--max-documents 0", "max_documents 0: at least 1"),
        ("--max-steps 0", "steps 0: a whole number of at least 1"),
        ("--checkpoints 0,9", "checkpoints has 9: from 0 to 4"),
        ("--checkpoints x", "--checkpoints 'x': 'x' is not a number"),
        ("--checkpoint-every 2", "checkpoint_every and checkpoints: give one of them"),
        (
            "--sequence-length-schedule 8",
            "--sequence-length-schedule '8': expected pairs such as 8:800,16:1200",
        ),
        ("--sequence-length-schedule 8:x", "--sequence-length-schedule '8:x': 'x' is not a number"),
        (
            "--sequence-length-schedule 5:2",
            "sequence_length_schedule: pieces of 5 tokens: a number from 2 on that divides",
        ),
        ("--precision fp16", "unknown precision 'fp16'"),
        ("--log-with tensorbord", "unknown log_with 'tensorbord'"),
        ("--max-minutes 0", "minutes 0.0: a number above 0"),
        ("--sise nano", "No such option"),
    ],
)
def test_bad_options(
    d90: Command, corpus: Path, monkeypatch: pytest.MonkeyPatch, options: str, message: str
) -> None:
    monkeypatch.setattr(pretrain, "PretrainSession", lambda *_: pytest.fail("it was started"))
    check(d90("pretrain", corpus, "-o", "run", *QUICK, *options.split()), message)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("./none", "corpus './none': there is no such file or folder"),
        ("text.txt", "Did you mean 'texts.txt'?"),
        ("empty", "no text in 'empty': expected files ending in .txt"),
        ("blank.txt", "the corpus has no text"),
        ("short.txt", "fewer than a block of 16"),
    ],
)
def test_bad_corpora(d90: Command, corpus: Path, name: str, message: str) -> None:
    Path("empty").mkdir()
    Path("blank.txt").write_text(" \n\n \n")
    Path("short.txt").write_text("few words")
    check(d90("pretrain", name, "-o", "run", *QUICK), message)


def test_missing_arguments(d90: Command, corpus: Path) -> None:
    check(d90("pretrain", corpus), "Missing option '--output'")
    check(d90("pretrain", "-o", "run"), "Missing argument 'CORPUS...'")
