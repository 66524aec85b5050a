"""d90 of a task of regression: measured, resumed and reported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.helpers import tiny

import d90
from d90.errors import D90Error
from d90.executors import TrialRunner
from d90.report import write_report
from d90.search.summary import Summary


@pytest.fixture
def options(ready_folder: Path, tmp_path: Path) -> dict[str, Any]:
    tiny.write_task(tiny.toy_regression(), tmp_path / "scores")
    return {
        "model": str(ready_folder),
        "task": tmp_path / "scores",
        "metric": "r2",
        "training": d90.TrainConfig(epochs=3, batch_size=8, precision="no"),
        "protocol": d90.ListProtocol(
            dims=(1, 200), learning_rates=(0.03,), baseline_learning_rates=(0.003,)
        ),
        "max_length": 16,
        "store": tmp_path / "d90.db",
    }


def test_measure_resume_and_report(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = d90.measure(**options)
    assert (first.metric, first.majority, first.reference) == ("r2", 0.0, "constant prediction")
    assert first.full_metric is not None and first.full_metric > 0.7
    small, large = first.curve
    assert small.best < 0.5 * first.full_metric < large.best
    assert set(first.trials[0].metrics) == {
        f"{split}/{name}"
        for split in ("validation", "train")
        for name in ("pearson", "spearman", "r2", "mse")
    }
    assert all(trial.skills == {} for trial in first.trials)
    monkeypatch.setattr(TrialRunner, "run", lambda *_: pytest.fail("a trial is run again"))
    again = d90.measure(**options)
    assert again.trials == first.trials and again.d90 == first.d90
    write_report(again, tmp_path / "report")
    loaded = Summary.load(tmp_path / "report")
    assert loaded.reference == "constant prediction"
    page = (tmp_path / "report" / "index.html").read_text()
    assert "Constant prediction" in page and "ajority class" not in page


def test_a_collapsed_run_says_why(options: dict[str, Any]) -> None:
    config = d90.TrainConfig(max_steps=1, batch_size=8, precision="no")
    protocol = d90.ListProtocol(dims=(1,), learning_rates=(1e-6,), baseline_learning_rates=(1e-9,))
    summary = d90.measure(**{**options, "training": config, "protocol": protocol})
    assert {trial.status for trial in summary.trials} == {"collapsed"}
    assert "no better than a constant prediction" in summary.trials[0].message
    assert summary.status == "undefined-baseline"
    assert summary.trials[0].metric is not None and summary.trials[0].metric < 0
    assert Summary.from_json(summary.to_json()).trials[0].metric == summary.trials[0].metric


@pytest.mark.parametrize("criterion", ["brier", "nll"])
def test_smooth_criteria_are_of_classification(options: dict[str, Any], criterion: str) -> None:
    with pytest.raises(D90Error, match="the metric of this task is 'r2', so expected r2 alone"):
        d90.measure(**options, criterion=criterion)
