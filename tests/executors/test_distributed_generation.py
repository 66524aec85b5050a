"""A trial of generation run by two processes: the loss of a token is that of one process."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.helpers import tiny
from tests.helpers.gloo import pair

from d90.executors import TrialRunner
from d90.search.trial import Trial, TrialResult
from d90.tasks import Task
from d90.training import TrainConfig

TASK = replace(
    tiny.toy_generation(),
    metric="exact_match",
    options={"answer_pattern": "good|great|bad|awful", "max_new_tokens": "4"},
)
CONFIG = TrainConfig(epochs=2, batch_size=5, gradient_accumulation_steps=3, precision="no")


def run(model: str, task: Task) -> tuple[list[TrialResult], Any]:
    """Full fine-tuning and a subspace; and the scores at z = 0."""
    runner = TrialRunner(model, task, CONFIG, max_length=16)
    results = [runner.run(trial) for trial in (Trial(None, 0.01), Trial(60, 0.02))]
    return results, runner.measured_data.kind.initial_scores


def in_process(rank: int, model: str, task: Task) -> tuple[list[TrialResult], Any]:
    return run(model, task)


@pytest.mark.parametrize("family", ["llama", "t5"])
def test_losses_and_answers_are_those_of_one_process(family: str, tmp_path: Path) -> None:
    tiny.write_language_model(tmp_path, family)
    if family == "t5":  # Two processes draw other dropout masks than one.
        file = tmp_path / "config.json"
        file.write_text(file.read_text().replace('"dropout_rate": 0.1', '"dropout_rate": 0.0'))
    alone, initial = run(str(tmp_path), TASK)
    first, second = pair().run(in_process, str(tmp_path), TASK)
    assert [replace(r, seconds=0.0) for r in first[0]] == [
        replace(r, seconds=0.0) for r in second[0]
    ]
    assert first[1] == second[1] == pytest.approx(initial, rel=1e-6)
    for result, one in zip(first[0], alone, strict=True):
        assert result.trial == one.trial and result.status == one.status
        assert result.metrics == pytest.approx(one.metrics, rel=1e-3)
        assert len(result.history) == 2
        for epoch, expected in zip(result.history, one.history, strict=True):
            assert epoch["loss"] == pytest.approx(expected["loss"], rel=1e-4)
    assert alone[0].history[1]["loss"] < alone[0].history[0]["loss"]
