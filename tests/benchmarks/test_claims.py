"""The studies of claims: their names and seeds, the queue, and the tables by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks.claims import reference
from benchmarks.claims.__main__ import CLAIMS, PRETRAINING, commands_of, main
from benchmarks.claims.checkpoints import same_loss
from benchmarks.claims.pretraining import MODELS
from benchmarks.claims.reference import Row, said_against_did
from benchmarks.claims.study import REPETITIONS, Study, load, pooled, run
from tests.helpers.studies import FULL, every_kind, metric_at

from d90.pretraining.checkpoints import Evaluation
from d90.search.estimate import Estimate
from d90.search.trial import Trial, TrialResult

OPTIONS = (
    "--dims=20",
    "--learning-rates=0.008",
    "--baseline-learning-rates=1e-3",
    "--epochs=1",
    "--max-length=16",
)


def write_histories(folder: Path) -> None:
    """Of all pre-trainings: the loss falls from 8 to that of the last step, a larger one's more."""
    for end, job in zip((3.5, 3.9, 3.7, 3.6), MODELS.values(), strict=True):
        steps = range(0, job.steps + 1, 250)
        losses = {step: 8 - (8 - end) * step / job.steps for step in steps}
        history = [Evaluation(s, 2048 * s, None, loss, 1.0).to_json() for s, loss in losses.items()]
        empty = {key: {} for key in ("settings", "corpus", "versions")}
        values = {"D": 1, "command": "", "started": "", "finished": None, "step": 0, "seconds": 0.0}
        (folder / job.name).mkdir(parents=True)
        text = json.dumps({**empty, **values, "history": history})
        (folder / job.name / "pretraining.json").write_text(text)


def test_the_sizes_are_compared_at_one_loss(tmp_path: Path) -> None:
    write_histories(tmp_path)
    steps = same_loss(tmp_path)
    assert steps["small"] == 4500
    for size, end in (("nano", 3.5), ("mini", 3.7), ("micro", 3.6)):
        loss = 8 - (8 - end) * steps[size] / MODELS[size].steps
        assert loss == pytest.approx(3.9, abs=0.13)


@pytest.mark.parametrize("claim", ["trajectory", "sizes"])
def test_the_figures_of_checkpoints(
    claim: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_histories(tmp_path)
    for command in commands_of(claim, tmp_path):
        assert isinstance(command, Study)
        summary = replace(every_kind()["ok"], model=command.model, task=command.task)
        (tmp_path / command.name).mkdir(parents=True)
        (tmp_path / command.result).write_text(summary.to_json())
    assert main(["table", str(tmp_path), claim]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len([*(tmp_path / claim).rglob("figure?.png")])
    assert len(lines) == (1 if claim == "trajectory" else 2)


@pytest.mark.parametrize("claim", [PRETRAINING, *CLAIMS])
def test_names_are_of_one_command(claim: str, tmp_path: Path) -> None:
    write_histories(tmp_path)
    commands = commands_of(claim, tmp_path)
    for key in ("name", "result"):
        assert len({getattr(command, key) for command in commands}) == len(commands) > 0


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_table_without_studies(
    claim: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_histories(tmp_path)
    assert main(["table", str(tmp_path), claim]) == 0
    assert capsys.readouterr().out


def test_the_models_are_pretrained(tmp_path: Path) -> None:
    """With few steps, nano ends with the result that the queue looks for."""
    (tmp_path / "texts").mkdir()
    text = "\n\n".join(f"{i} rivers flow and birds sing " * 20 for i in range(200))
    (tmp_path / "texts" / "text.txt").write_text(text)
    nano = replace(MODELS["nano"], steps=2, schedule="8:1")
    assert run(tmp_path, [nano], tmp_path)
    assert (tmp_path / nano.result / "model.safetensors").exists()
    last = (tmp_path / "pretraining/nano.log").read_text().splitlines()[-1]
    assert "after 2 of 2 steps, finished" in last


def test_repetitions_of_a_row_share_no_seed() -> None:
    for row in reference.rows():
        options = [reference.study(row, k).options for k in range(REPETITIONS)]
        assert len({o[-1] for o in options}) == REPETITIONS
        assert len({o[:-1] for o in options}) == 1


def test_the_queue(tiny_folder: Path, toy_folder: Path, tmp_path: Path) -> None:
    sources = tmp_path / "sources"
    for name, folder in (("models", tiny_folder), ("data", toy_folder)):
        (sources / name).mkdir(parents=True)
        (sources / name / "tiny").symlink_to(folder)
    good = Study("a/good", "models/tiny", "data/tiny", OPTIONS)
    bad = Study("a/bad", "models/none", "data/tiny", OPTIONS)
    folder = tmp_path / "reports of studies"
    assert not run(folder, [bad, good], sources, processes=2)
    assert set(load(folder, [good, bad])) == {good}
    assert "error: " in (folder / "a/bad.log").read_text()
    assert str(tmp_path) not in (folder / "a/good/summary.json").read_text()
    written = (folder / "a/good.log").stat()
    assert run(folder, [good], sources)
    assert (folder / "a/good.log").stat() == written


def test_repetitions_are_pooled() -> None:
    """As if one study had made the trials of all of them."""
    results = [TrialResult(Trial(None, 1e-4, 1000 + k), "ok", FULL + 0.003 * k) for k in (-1, 0, 1)]
    results += [
        TrialResult(Trial(d, 0.008, 10 * d + k), "ok", metric_at(d, 0.008, k))
        for d in (10, 30, 60, 100, 300, 1000, 3000)
        for k in range(4)
    ]
    summary = replace(every_kind()["ok"], trials=tuple(results), examples={"metric": 1000})
    parts = [replace(summary, trials=tuple(results[k::2])) for k in range(2)]
    found = pooled(parts, "accuracy")
    assert found == pooled([summary], "accuracy") != pooled(parts[:1], "accuracy")
    assert found.threshold == pytest.approx(0.9 * FULL)


def test_said_against_did_by_hand() -> None:
    answers: dict[Row, Estimate] = {}
    for task, did, said in (("a", 400, 100), ("b", 400, 400), ("c", 100, None), ("d", None, 50)):
        answers[Row("m", task, "did")] = Estimate("ok", did)
        answers[Row("m", task, "said")] = Estimate("ok", said)
    assert said_against_did(answers).startswith(
        "d90 by SAID is 0.50 times that by DID (geometric mean of 2 rows, 95% interval 0.25 to 1.00"
    )
    assert "lower in 1 of them" in said_against_did(answers)
    assert said_against_did({}) == "SAID against DID: 0 rows have both."


def test_the_reference_table() -> None:
    row = Row("bert-tiny", "mrpc", "said")
    summary = every_kind()["ok"]
    trials = tuple(replace(r, skills={"nll": 0.2, "brier": 0.2}) for r in summary.trials)
    summary = replace(summary, trials=trials, examples={"metric": 1000})
    found = {reference.study(row, k): summary for k in (0, 2)}
    lines = reference.table(found).splitlines()
    assert lines[2].startswith(f"| bert-tiny | mrpc | said | 2 | {2 * len(trials)} | 0.684 | 0.802")
    assert lines[2].count(" | ") == lines[0].count(" | ")
