"""`d90 pretrain`: its output, its files and its errors."""

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


def test_rerunning_trains_nothing(d90: Command, corpus: Path) -> None:
    result = d90("pretrain", corpus, "-o", "a run", *QUICK)
    assert (result.code, result.err) == (0, "")
    first, *evaluations, last = result.out.splitlines()
    assert re.match(r"D = [\d,]+, vocabulary \d+; training: \d+ documents, [\d,]+ tokens;", first)
    assert [line.split()[1] for line in evaluations] == ["0", "2", "4"]
    assert re.match(r"a run: validation perplexity [\d.]+ after 4 of 4 steps, finished$", last)
    assert [step for step, _ in checkpoints("a run")] == [0, 2, 4]
    again = d90("pretrain", corpus, "-o", "a run", *QUICK, "--quiet")
    assert (again.code, again.err, again.out) == (0, "", last + "\n")
    changed = d90("pretrain", corpus, "-o", "a run", *QUICK, "--seed", "1")
    check(changed, "'a run' holds another run (seed was 0 and is now 1)")


def test_an_interrupt(d90: Command, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pretrain_progress.PretrainProgress, "on_progress", interrupt)
        result = d90("pretrain", corpus, "-o", "run", *QUICK)
    assert (result.code, result.err.count("\n")) == (130, 1)
    assert "rerun the command to resume" in result.err
    assert "after 4 of 4 steps, finished" in d90("pretrain", corpus, "-o", "run", *QUICK).out


def test_max_minutes(d90: Command, corpus: Path) -> None:
    result = d90("pretrain", corpus, "-o", "run", *QUICK, "--max-minutes", "1e-9", "--quiet")
    assert "after 1 of 4 steps, stopped: rerun the command to resume" in result.out


def test_dry_run_writes_nothing(d90: Command, corpus: Path) -> None:
    result = d90(
        "pretrain", corpus, "-o", "run", *QUICK, "--sequence-length-schedule", "8:2", "--dry-run"
    )
    assert (result.code, result.err) == (0, "")
    assert "sequence lengths: 8 until step 2, then 16\n" in result.out
    assert re.search(r"^D = 23\d,\d{3}, vocabulary of at most 270$", result.out, re.M)
    assert "optimizer steps: 4 of 32 tokens, 128 in total" in result.out
    assert "texts.txt (1 files" in result.out
    assert not Path("run").exists()


def test_options_from_a_file(d90: Command, corpus: Path) -> None:
    Path("run.toml").write_text(
        f"corpus = {json.dumps(corpus.name)}\noutput = 'from the file'\nsize = 'base'\n"
        "checkpoints = '0,1'\nquiet = true\n"
    )
    result = d90("pretrain", "--config", "run.toml", *QUICK, "--max-steps", "2")
    assert (result.code, result.err, result.out.count("\n")) == (0, "", 1)
    assert [step for step, _ in checkpoints("from the file")] == [0, 2]


def check(result: tuple[int, str, str], message: str) -> None:
    code, out, err = result
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
        ("--validation-fraction 1", "validation_fraction 1.0: a fraction between 0 and 1"),
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
            "sequence_length_schedule: length 5: a number from 2 on that divides",
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
    monkeypatch.setattr(pretrain, "PretrainSession", lambda *_: pytest.fail("training was started"))
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
