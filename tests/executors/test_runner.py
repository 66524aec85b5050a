"""Trials of a tiny model: the same trial gives the same record, whatever ran before it."""

from __future__ import annotations

import errno
import gc
import weakref
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.helpers.executors import without_time

from d90 import subspace
from d90.errors import D90Error
from d90.executors import runner
from d90.executors.runner import TrialRunner
from d90.search.subspace_config import SubspaceConfig
from d90.search.trial import Trial
from d90.tasks import Task
from d90.training import Progress, TrainConfig
from d90.utils.digest import state_digest

CONFIG = TrainConfig(epochs=2, batch_size=8)
FULL = Trial(None, 0.02, seed=0)
SMALL = Trial(200, 0.012, seed=3)


@pytest.fixture
def new_executor(tiny_folder: Path, toy_task: Task) -> Callable[..., TrialRunner]:
    def new(**options) -> TrialRunner:
        options = {"config": CONFIG, "max_length": 16, **options}
        return TrialRunner(str(tiny_folder), toy_task, **options)

    return new


def test_full_fine_tuning_and_a_subspace_learn(new_executor):
    executor = new_executor(config=replace(CONFIG, epochs=8))
    full, small = executor.run(FULL), executor.run(SMALL)
    assert (full.status, small.status) == ("ok", "ok")
    assert full.trial == FULL
    assert full.metric is not None
    assert small.metric is not None
    assert min(full.metric, small.metric) > 0.8
    assert full.seconds > 0
    assert len(small.history) == 8


def test_the_same_trial_gives_the_same_record(new_executor):
    executor = new_executor()
    fingerprint = state_digest(executor.model)
    first, _, again = executor.run(SMALL), executor.run(FULL), executor.run(SMALL)
    assert without_time(first) == without_time(again)
    assert state_digest(executor.model) == fingerprint
    assert without_time(new_executor().run(SMALL)) == without_time(first)
    assert without_time(executor.run(replace(SMALL, seed=4))) != without_time(first)


def test_settings_of_a_trial(new_executor):
    executor = new_executor()
    assert executor.config_for(None).optimizer == "adamw"
    assert executor.config_for(200).optimizer == "adam"
    own = new_executor(baseline_config=replace(CONFIG, optimizer="sgd"))
    assert own.config_for(None).optimizer == "sgd"


def test_a_trial_leaves_no_model_behind(new_executor, monkeypatch: pytest.MonkeyPatch):
    """Nor does it take a search of the whole heap to be rid of it."""
    executor, copies = new_executor(), []

    def noted(model):
        copies.append(weakref.ref(copied := deepcopy(model)))
        return copied

    monkeypatch.setattr("d90.executors.runner.deepcopy", noted)
    gc.disable()
    try:
        for trial in (Trial(None, 0.01), Trial(10, 0.01), Trial(20, 0.01)):
            executor.run(trial)
    finally:
        gc.enable()
    assert [copy() for copy in copies] == [None, None, None]


def test_options_reach_the_subspace(new_executor, monkeypatch: pytest.MonkeyPatch):
    seen = {}

    def attach(model, **options):
        seen.update(options)
        return subspace.attach(model, **options)

    monkeypatch.setattr(runner, "attach", attach)
    executor = new_executor(subspace=SubspaceConfig("said", projection="onehot"))
    executor.run(SMALL)
    assert SubspaceConfig(**seen) == SubspaceConfig("said", projection="onehot", d=200, seed=3)


def test_what_goes_wrong_in_a_trial_is_its_record(new_executor, monkeypatch: pytest.MonkeyPatch):
    def run_out(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 1 TiB.")

    monkeypatch.setattr(runner, "train", run_out)
    result = new_executor().run(FULL)
    assert result.status == "failed"
    assert result.message == "OutOfMemoryError: CUDA out of memory. Tried to allocate 1 TiB."
    assert not result.is_valid


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_want_of_memory_that_passes_changes_nothing(
    new_executor, error: Exception, caplog: pytest.LogCaptureFixture
):
    executor = new_executor()
    raised = []

    def raise_once(progress: Progress) -> None:
        if progress.step == 5 and not raised:
            raised.append(error)
            raise error

    assert without_time(executor.run(SMALL, raise_once)) == without_time(executor.run(SMALL))
    assert raised
    assert f"ran out of memory ({error})" in caplog.text


def test_another_error_is_not_tried_again(new_executor):
    raised = []

    def break_down(_: Progress) -> None:
        raised.append(1)
        raise RuntimeError("shape mismatch")

    assert new_executor().run(SMALL, break_down).message == "RuntimeError: shape mismatch"
    assert len(raised) == 1


def test_bad_input_and_interrupts_are_raised(new_executor):
    executor = new_executor(subspace=SubspaceConfig("said"))
    with pytest.raises(D90Error, match="SAID"):
        executor.run(Trial(2, 0.1))

    def interrupt(_: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        executor.run(SMALL, interrupt)


@pytest.mark.parametrize("method", ["did", "said"])
def test_a_killed_trial_goes_on_to_the_bit(new_executor, tmp_path: Path, method: str):
    options: dict[str, Any] = {"subspace": SubspaceConfig(method)}
    expected = new_executor(**options).run(SMALL)
    options.update(checkpoint_dir=tmp_path, checkpoint_every=4)

    def kill(progress: Progress) -> None:
        if progress.step == 15:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        new_executor(**options).run(SMALL, kill)
    assert len(list(tmp_path.iterdir())) == 1
    seen: list[Progress] = []
    result = new_executor(**options).run(SMALL, seen.append)
    assert seen[0].step == 13
    assert without_time(result) == without_time(expected)
    assert list(tmp_path.iterdir()) == []


def test_inputs_longer_than_the_model_takes(new_executor):
    with pytest.raises(D90Error, match="takes at most 32 tokens"):
        new_executor(max_length=64)


def test_model_that_does_not_fit_is_not_loaded(new_executor, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(runner.loading, "load", lambda *_, **__: pytest.fail("it was loaded"))
    with pytest.raises(D90Error, match="lower the batch size"):
        new_executor(config=replace(CONFIG, batch_size=2**30))


def test_precisions_must_agree(new_executor):
    with pytest.raises(D90Error, match="give both the same"):
        new_executor(baseline_config=replace(CONFIG, precision="bf16"))


def test_predictions_of_time_and_memory(new_executor):
    executor = new_executor()
    for trial in (FULL, SMALL):
        predicted, seconds = executor.estimate_seconds(trial), executor.run(trial).seconds
        assert seconds / 20 < predicted < seconds * 20
    assert executor.estimate_memory(None).total > executor.estimate_memory(200).total


def test_real_model_in_a_subspace(bert_tiny: Path, toy_task: Task):
    settings = replace(CONFIG, max_steps=2)
    executor = TrialRunner(str(bert_tiny), toy_task, settings, max_length=16)
    result = executor.run(Trial(50, 0.01))
    assert result.status in ("ok", "collapsed")
