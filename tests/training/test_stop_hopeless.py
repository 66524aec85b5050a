"""Runs that predict one class only after a quarter and after half of their steps end there."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from transformers import PreTrainedTokenizerFast

from d90.models import loading
from d90.search.trial import TrialResult
from d90.subspace import attach
from d90.tasks import Task
from d90.training import Progress, TrainConfig, train
from d90.training.data import TokenizedTask, tokenize
from d90.training.state import TrainState

STEPS_PER_EPOCH = 12
CONFIG = TrainConfig(max_steps=20, batch_size=8, precision="no", stop_hopeless=True)
"""A quarter is 5 steps and half is 10: neither ends an epoch."""

ONE_CLASS, STOPPED = "its best evaluation predicts one class only", "after 10 of 20 optimizer steps"


@pytest.fixture(scope="module")
def data(toy_task: Task, tiny_tokenizer: PreTrainedTokenizerFast) -> TokenizedTask:
    return tokenize(toy_task, tiny_tokenizer)


class Scripted(nn.Module):
    """Predicts both classes after the optimizer steps of which `learned` is true, else one."""

    def __init__(self, learned: Callable[[int], bool]) -> None:
        super().__init__()
        self.weight, self.learned = nn.Parameter(torch.zeros(())), learned
        self.steps = self.evaluation_batches = 0

    def forward(self, input_ids: torch.Tensor, **_: torch.Tensor) -> SimpleNamespace:
        self.steps += self.training
        self.evaluation_batches += not self.training
        is_second = torch.arange(len(input_ids)) % 2 * self.learned(self.steps)
        return SimpleNamespace(logits=nn.functional.one_hot(is_second, 2) + 0 * self.weight)


def run(model: nn.Module, data: TokenizedTask, config: TrainConfig, **options: Any) -> TrialResult:
    result = train(model, data, config, **{"learning_rate": 0.02, "d": 30, **options})
    return replace(result, seconds=0.0)


@pytest.mark.parametrize(
    ("learned", "status"),
    [
        (lambda step: False, "stopped"),
        (lambda step: step < 5 or step > 10, "stopped"),
        (lambda step: step >= 5, "ok"),
        (lambda step: step >= 10, "ok"),
        (lambda step: step == 5, "collapsed"),
        (lambda step: step == 10, "collapsed"),
    ],
)
def test_one_class_at_both_ends_the_run(
    data: TokenizedTask, learned: Callable[[int], bool], status: str
):
    model = Scripted(learned)
    result = run(model, data, CONFIG)
    assert result.status == status
    assert model.steps == (10 if status == "stopped" else 20)
    if status == "stopped":
        assert result.message == f"{STOPPED}: it predicts one class only, as after 5"
        assert (result.history, result.metric) == ((), None)  # No epoch had ended.


@pytest.mark.parametrize(("learns_at", "looks"), [(5, 1), (10, 2), (math.inf, 2)])
def test_it_costs_an_evaluation_of_the_primary_split_or_two(
    data: TokenizedTask, learns_at: float, looks: int
):
    model = Scripted(lambda step: step >= learns_at)
    result = run(model, data, CONFIG)
    batches = math.ceil(len(data.evaluation["validation"]) / 32)
    epochs = 2 * len(result.history) * batches  # As many rows of the training split.
    assert model.evaluation_batches == epochs + looks * batches


def test_the_evaluation_of_an_epoch_serves(data: TokenizedTask):
    """Of four epochs a quarter is the first and half is the second."""
    config = replace(CONFIG, max_steps=None, epochs=4)
    hopeless, plain = Scripted(lambda step: False), Scripted(lambda step: False)
    stopped = run(hopeless, data, config)
    collapsed = run(plain, data, replace(config, stop_hopeless=False))
    assert (stopped.status, collapsed.status) == ("stopped", "collapsed")
    assert stopped.message.startswith("after 24 of 48 optimizer steps")
    assert stopped.history == collapsed.history[:2]
    assert stopped.metric == collapsed.metric
    assert 2 * hopeless.evaluation_batches == plain.evaluation_batches


@pytest.mark.parametrize(("steps", "status"), [(1, "collapsed"), (2, "collapsed"), (3, "stopped")])
def test_a_run_too_short_for_two_looks_ends_by_itself(data: TokenizedTask, steps: int, status: str):
    result = run(Scripted(lambda step: False), data, replace(CONFIG, max_steps=steps))
    assert result.status == status


@pytest.mark.parametrize("options", [{"d": None}, {"config": replace(CONFIG, stop_hopeless=False)}])
def test_full_fine_tuning_and_runs_without_the_option_go_on(
    data: TokenizedTask, options: dict[str, Any]
):
    result = run(Scripted(lambda step: False), data, **{"config": CONFIG, **options})
    assert (result.status, result.message, len(result.history)) == ("collapsed", ONE_CLASS, 2)


@pytest.mark.parametrize("killed_at", [4, 7, 10])
def test_a_stopped_run_resumes_to_the_same_end(data: TokenizedTask, tmp_path: Path, killed_at: int):
    """Killed before the quarter, between the two, and when it has been stopped."""

    def kill(progress: Progress) -> None:
        if progress.step == killed_at:
            raise KeyboardInterrupt

    whole = run(Scripted(lambda step: False), data, CONFIG)
    folder: dict[str, Any] = {"checkpoint_dir": tmp_path, "checkpoint_every": 5}
    with pytest.raises(KeyboardInterrupt):
        run(Scripted(lambda step: False), data, CONFIG, on_progress=kill, **folder)
    resumed = Scripted(lambda step: False)
    assert run(resumed, data, CONFIG, **folder) == whole
    assert resumed.steps == (10 if killed_at == 4 else 5)
    again = Scripted(lambda step: False)  # Its checkpoint is of the end.
    assert run(again, data, CONFIG, **folder) == whole
    assert again.steps == 0


@pytest.mark.parametrize("killed_at", [None, 7])
def test_a_run_that_is_not_stopped_has_the_same_bits(
    data: TokenizedTask, ready_folder: Path, tmp_path: Path, killed_at: int | None
):
    def once(is_on: bool, until: int | None = None) -> tuple[torch.Tensor, TrialResult, int]:
        def kill(progress: Progress) -> None:
            if progress.step == until:
                raise KeyboardInterrupt

        evaluations = 0

        def count(module: nn.Module, *_: Any) -> None:
            nonlocal evaluations
            evaluations += not module.training

        model = loading.load(str(ready_folder), num_labels=2, head_seed=3)[0]
        model.register_forward_hook(count)
        subspace = attach(model, d=50)
        config = replace(CONFIG, stop_hopeless=is_on)
        folder: dict[str, Any] = {"checkpoint_dir": tmp_path / str(is_on), "checkpoint_every": 3}
        result = run(model, data, config, d=50, on_progress=kill, **folder)
        return subspace.z.detach(), result, evaluations

    if killed_at is not None:
        with pytest.raises(KeyboardInterrupt):
            once(True, killed_at)
    z, result, evaluated = once(True)
    expected_z, expected, fewer = once(False)
    assert result.status == "ok"
    assert result == expected
    assert torch.equal(z, expected_z)
    assert evaluated - fewer == (2 if killed_at is None else 0)  # 64 examples in batches of 32.


def test_a_model_that_learns_nothing_is_stopped_on_its_way(data: TokenizedTask, tiny_folder: Path):
    """The random body is no pretrained model: in a subspace it predicts one class to the end."""

    def once(config: TrainConfig) -> tuple[list[torch.Tensor], TrialResult]:
        model, seen = loading.load(str(tiny_folder), num_labels=2)[0], []
        subspace = attach(model, d=30)
        result = run(
            model, data, config, on_progress=lambda _: seen.append(subspace.z.detach().clone())
        )
        return seen, result

    seen, stopped = once(CONFIG)
    expected, collapsed = once(replace(CONFIG, stop_hopeless=False))
    assert (stopped.status, collapsed.status) == ("stopped", "collapsed")
    assert (len(seen), len(expected)) == (10, 20)
    assert all(map(torch.equal, seen, expected))


def test_a_checkpoint_of_a_version_without_the_option_is_read():
    values = TrainState(step=3, collapsed_at=[2]).to_json()
    assert TrainState.from_json(values).collapsed_at == [2]
    del values["collapsed_at"]
    assert TrainState.from_json(values) == TrainState(step=3)
