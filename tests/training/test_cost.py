"""The estimated time of a run."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from d90.models import loading
from d90.tasks import Task
from d90.training import TrainConfig, estimate_seconds
from d90.training.cost import seconds_per_call
from d90.training.data import tokenize
from d90.training.trainer import Trainer


def test_what_is_slow_only_at_the_start_does_not_count(
    monkeypatch: pytest.MonkeyPatch, toy_task: Task, tiny_folder: Path
) -> None:
    """The first step allocates, and on a GPU kernels compile in the second."""
    step, calls = Trainer.optimizer_step, []

    def slow_at_first(run: Trainer) -> float:
        calls.append(run)
        if len(calls) <= 2:
            time.sleep(0.5)
        return step(run)

    monkeypatch.setattr(Trainer, "optimizer_step", slow_at_first)
    model, tokenizer = loading.load(str(tiny_folder), num_labels=2)
    data = tokenize(toy_task, tokenizer, max_length=16)
    config = TrainConfig(max_steps=1, batch_size=8, precision="no")
    assert estimate_seconds(model, data, config, learning_rate=0.01) < 0.4
    assert len(calls) == 5


def test_the_clock_waits_for_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []

    def synchronize(device: torch.device) -> None:
        events.append("synchronize")
        time.sleep(0.1)  # Of work that was launched and not done.

    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    seconds = seconds_per_call(lambda: events.append("call"), 2, torch.device("cuda"))
    assert events == ["synchronize", "call", "call", "synchronize"]
    assert seconds >= 0.05
    seconds_per_call(lambda: None, 1, torch.device("cpu"))
    assert len(events) == 4
