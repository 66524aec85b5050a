"""`d90 measure` from end to end, with a tiny model."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from d90.executors import runner
from d90.search.trial import Trial, TrialResult
from d90.storage.store import Store

from .conftest import QUICK, Command, Result


def load_summary(folder: Path | str) -> dict[str, Any]:
    return json.loads((Path(folder) / "summary.json").read_text())


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> list[Trial]:
    """The trials that were run, in order."""
    trials: list[Trial] = []
    run = runner.TrialRunner.run

    def record(self: Any, trial: Trial, *rest: Any) -> TrialResult:
        trials.append(trial)
        return run(self, trial, *rest)

    monkeypatch.setattr(runner.TrialRunner, "run", record)
    return trials


def test_rerunning_trains_nothing(measure: Command, executed: list[Trial]) -> None:
    options = ("--dims", "1,10,50", "--store", "a store/d90.db", "--output", "a report")
    first = measure(*options)
    assert (first.code, first.err) == (0, "")
    lines = first.out.splitlines()
    assert sum(line.startswith(("full fine-tuning", "d = ")) for line in lines) == 4
    assert not {"\r", "\x1b", "\b"} & set(first.out)
    assert lines[-1] == "report: a report/index.html"
    summary = load_summary("a report")
    assert summary["status"] == "ok"
    assert summary["first_passing_d"] in (10, 50)
    assert 1 <= summary["d90"] <= 50
    assert f"d90 = {summary['d90']}" in first.out
    assert {path.name for path in Path("a report").iterdir()} == {
        *("summary.json", "trials.csv", "curve.png", "curve.svg", "index.html")
    }
    assert len(executed) == 4

    again = measure(*options)
    assert again.code == 0
    assert "trials already finished: 4" in again.out
    assert len(executed) == 4
    assert load_summary("a report")["trials"] == summary["trials"]


def test_summary_has_every_key(measure: Command) -> None:
    measure("--dims", "20", "--seeds", "0,1", "--output", "out")
    summary = load_summary("out")
    keys = "model task method groups projection scale D majority full_metric threshold d90 status"
    assert {*keys.split(), "interval", "trials", "versions"} <= summary.keys()
    assert (summary["method"], summary["groups"], summary["projection"]) == (
        "did",
        "layer",
        "fastfood",
    )
    assert (summary["scale"], summary["status"], summary["d90"]) == ("tensor", "at-minimum", None)
    assert summary["threshold"] == pytest.approx(0.9 * summary["full_metric"])
    keys = {"d", "learning_rate", "seed", "metric", "train_metric", "status", "seconds"}
    assert all(keys <= trial.keys() for trial in summary["trials"])
    trials = [(t["d"], t["learning_rate"], t["seed"]) for t in summary["trials"]]
    assert trials == [(d, 0.01, seed) for d in (None, 20) for seed in (0, 1)]
    assert {"d90", "torch", "python"} <= summary["versions"].keys()
    assert summary["command"].startswith("d90 measure ")


def test_hopeless_trials_are_stopped(d90: Command, tiny_folder: Path, toy_folder: Path) -> None:
    """The random body learns the task in full fine-tuning, and nothing in a subspace."""
    options = ("--dims", "30", "--max-steps", "36", "--baseline-learning-rates", "0.02")
    outputs = ("--output", "out", "--stop-hopeless")
    result = d90("measure", tiny_folder, toy_folder, *QUICK, *options, *outputs)
    assert "stopped (" in result.out and "after 18 of 36 optimizer steps: " in result.out
    summary = load_summary("out")
    assert summary["settings"]["training"]["stop_hopeless"] is True
    assert "stop_hopeless" not in summary["settings"]["baseline_training"]
    assert [trial["status"] for trial in summary["trials"]] == ["ok", "stopped"]
    assert summary["warnings"][0] == "1 of 2 runs are excluded: 1 stopped"
    assert "--stop-hopeless" in Path("out/index.html").read_text()


def test_default_output(measure: Command) -> None:
    """Every study has its own folder."""
    for dims in ("10", "50"):
        assert measure("--dims", dims).code == 0
    studies = {study.name for study in Store("d90.db").studies()}
    assert {path.name for path in Path("reports").iterdir()} == studies
    assert len(studies) == 2
    assert all(name.startswith("tiny_model-toy_task-did-") for name in studies)


def test_quiet_prints_only_the_answer(measure: Command) -> None:
    assert measure("--dims", "50", "--quiet") == (0, "d90 ≤ 50 (at-minimum)\n", "")


def test_an_adaptive_study_takes_over_a_list(measure: Command) -> None:
    measure("--dims", "10,50")
    search = ("--protocol", "adaptive", "--max-dim", "200", "--budget", "6")
    assert "trials of other protocols taken over from the store: 2\n" in measure(*search).out
    assert "taken over" not in measure(*search).out


def test_bisect_with_said(measure: Command) -> None:
    search = ("--protocol", "bisect", "--min-dim", "6", "--max-dim", "600")
    assert measure(*search, "--method", "said", "--output", "out").code == 0
    summary = load_summary("out")
    assert (summary["method"], summary["groups"], summary["m"]) == ("said", "layer", 4)
    assert summary["status"] in ("ok", "at-minimum")
    assert 3 <= len(summary["trials"]) <= 12


def test_grid(measure: Command) -> None:
    grid = ("--protocol", "grid", "--min-dim", "2", "--max-dim", "50", "--num-dims", "3")
    assert measure(*grid, "--output", "out").code == 0
    assert [trial["d"] for trial in load_summary("out")["trials"]] == [None, 2, 10, 50]


def test_dry_run_trains_and_stores_nothing(measure: Command, executed: list[Trial]) -> None:
    result = measure("--protocol", "bisect", "--min-dim", "10", "--max-dim", "1000", "--dry-run")
    assert (result.code, result.err) == (0, "")
    assert not executed
    assert not list(Path().iterdir())
    output = " ".join(result.out.split())
    for text in ("full 1", "subspace", "D = 5,554", "GB free", "time: at most"):
        assert text in output


def test_an_interrupted_study_resumes(
    measure: Command, executed: list[Trial], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--dims", "10,50", "--output", "out")
    with pytest.MonkeyPatch.context() as patch:
        original = runner.train

        def interrupted(*arguments: Any, **settings: Any) -> Any:
            if len(executed) == 2:
                signal.raise_signal(signal.SIGINT)
            return original(*arguments, **settings)

        patch.setattr(runner, "train", interrupted)
        result = measure(*options)
    assert result.code == 130
    assert result.err == "interrupted: rerun the command to resume.\n"
    assert not Path("out/summary.json").exists()
    assert measure(*options).code == 0
    assert [trial.d for trial in executed] == [None, 10, 10, 50]


def test_a_second_process_on_the_same_study_is_refused(
    measure: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    second: list[Result] = []
    train = runner.train

    def train_and_start_another(*arguments: Any, **settings: Any) -> Any:
        if not second:
            second.append(measure("--dims", "50"))
        return train(*arguments, **settings)

    monkeypatch.setattr(runner, "train", train_and_start_another)
    assert measure("--dims", "50").code == 0
    assert second[0].code == 2
    assert second[0].err.count("\n") == 1
    assert "is already being run by process" in second[0].err


def test_too_little_memory(measure: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("d90.training.memory.available_memory", lambda _: 1000)
    monkeypatch.setattr(
        runner.loading, "load", lambda *_, **__: pytest.fail("the model was loaded")
    )
    result = measure("--dims", "50")
    assert result.code == 2
    assert result.err.count("\n") == 1
    assert "GB of memory is free" in result.err
    assert not Path("d90.db").exists()
