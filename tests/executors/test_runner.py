"""TrialRunner on a tiny model: a trial gives the same result, whatever ran before it."""

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
from d90.executors import runner as module
from d90.executors.runner import TrialRunner
from d90.search.subspace_config import SubspaceConfig
from d90.search.trial import Trial, TrialResult
from d90.tasks import Task
from d90.training import Progress, TrainConfig
from d90.utils.digest import state_digest

CONFIG = TrainConfig(epochs=2, batch_size=8)
FULL = Trial(None, 0.02, seed=0)
SMALL = Trial(200, 0.012, seed=3)


@pytest.fixture
def new_runner(tiny_folder: Path, toy_task: Task) -> Callable[..., TrialRunner]:
    def new(**options) -> TrialRunner:
        options = {"config": CONFIG, "max_length": 16, **options}
        return TrialRunner(str(tiny_folder), toy_task, **options)

    return new


def test_full_fine_tuning_and_a_subspace_learn(new_runner):
    runner = new_runner(config=replace(CONFIG, epochs=8))
    full, small = runner.run(FULL), runner.run(SMALL)
    assert (full.status, small.status) == ("ok", "ok")
    assert full.trial == FULL
    assert full.metric is not None
    assert small.metric is not None
    assert min(full.metric, small.metric) > 0.8
    assert full.seconds > 0
    assert len(small.history) == 8


def test_the_same_trial_gives_the_same_result(new_runner):
    runner = new_runner()
    fingerprint = state_digest(runner.model)
    first, _, again = runner.run(SMALL), runner.run(FULL), runner.run(SMALL)
    assert without_time(first) == without_time(again)
    assert state_digest(runner.model) == fingerprint
    assert without_time(new_runner().run(SMALL)) == without_time(first)
    assert without_time(runner.run(replace(SMALL, seed=4))) != without_time(first)


def test_settings_of_a_trial(new_runner):
    runner = new_runner()
    assert runner.config_for(None).optimizer == "adamw"
    assert runner.config_for(200).optimizer == "adam"
    with_own_baseline = new_runner(baseline_config=replace(CONFIG, optimizer="sgd"))
    assert with_own_baseline.config_for(None).optimizer == "sgd"


def test_a_trial_leaves_no_model_behind(new_runner, monkeypatch: pytest.MonkeyPatch):
    """The model is freed without a garbage collection."""
    runner, copies = new_runner(), []

    def recording_deepcopy(model, memo):
        copies.append(weakref.ref(copied := deepcopy(model, memo)))
        return copied

    monkeypatch.setattr("d90.executors.runner.deepcopy", recording_deepcopy)
    gc.disable()
    try:
        for trial in (Trial(None, 0.01), Trial(10, 0.01), Trial(20, 0.01)):
            runner.run(trial)
    finally:
        gc.enable()
    assert [copy() for copy in copies] == [None, None, None]


@pytest.mark.parametrize("trial", [FULL, SMALL])
def test_a_subspace_shares_theta_0_and_full_fine_tuning_copies_it(
    new_runner, monkeypatch: pytest.MonkeyPatch, trial: Trial
):
    """Buffers are copied in both: a batch norm writes to its own."""
    runner = new_runner()
    theta_0 = {p.data_ptr() for p in runner.model.parameters()}
    buffers = {b.data_ptr() for b in runner.model.buffers()}
    seen = []

    def train(model, *args, **options):
        trained = getattr(model, "subspace", None)
        read = model.parameters() if trained is None else trained.theta_0.values()
        seen.append(({t.data_ptr() for t in read}, {b.data_ptr() for b in model.buffers()}))
        return real(model, *args, **options)

    real = module.train
    monkeypatch.setattr(module, "train", train)
    fingerprint = state_digest(runner.model)
    assert runner.run(trial).status != "failed"
    [(weights, own_buffers)] = seen
    assert weights == theta_0 if trial.d else not weights & theta_0
    assert buffers
    assert not buffers & own_buffers
    assert state_digest(runner.model) == fingerprint


@pytest.mark.parametrize("has_room", [True, False])
def test_theta_0_moves_to_the_device_once_if_there_is_room(
    new_runner, monkeypatch: pytest.MonkeyPatch, has_room: bool
):
    runner, devices, moved = new_runner(), [], []
    to = torch.nn.Module.to

    def recording_to(model, device):
        moved.append(model is runner.model)
        return to(model, device)

    def train(model, *args, **options):
        devices.append((model.device.type, runner.model.device.type))
        return TrialResult(FULL, "ok")

    monkeypatch.setattr(torch.nn.Module, "to", recording_to)
    monkeypatch.setattr(module, "train", train)
    monkeypatch.setattr(runner, "device", torch.device("meta"))
    need = runner.estimate_memory(None).total
    monkeypatch.setattr(module, "available_memory", lambda _: need - (not has_room))
    assert [runner.run(FULL).status for _ in range(2)] == ["ok", "ok"]
    assert devices == [("meta", "meta" if has_room else "cpu")] * 2
    assert moved.count(True) == has_room


def test_theta_0_is_pickled_on_the_host(new_runner, monkeypatch: pytest.MonkeyPatch):
    runner, moved = new_runner(), []
    monkeypatch.setattr(runner.model, "cpu", lambda: moved.append("cpu"))
    runner.__getstate__()
    assert moved == ["cpu"]


def test_options_reach_the_subspace(new_runner, monkeypatch: pytest.MonkeyPatch):
    seen = {}

    def attach(model, **options):
        seen.update(options)
        return subspace.attach(model, **options)

    monkeypatch.setattr(module, "attach", attach)
    runner = new_runner(subspace=SubspaceConfig("said", projection="onehot"))
    runner.run(SMALL)
    assert SubspaceConfig(**seen) == SubspaceConfig("said", projection="onehot", d=200, seed=3)


def test_an_error_in_a_trial_is_its_result(new_runner, monkeypatch: pytest.MonkeyPatch):
    def run_out(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 1 TiB.")

    monkeypatch.setattr(module, "train", run_out)
    result = new_runner().run(FULL)
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
def test_a_trial_that_runs_out_of_memory_is_retried_once(
    new_runner, error: Exception, caplog: pytest.LogCaptureFixture
):
    runner = new_runner()
    raised = []

    def raise_once(progress: Progress) -> None:
        if progress.step == 5 and not raised:
            raised.append(error)
            raise error

    assert without_time(runner.run(SMALL, raise_once)) == without_time(runner.run(SMALL))
    assert raised
    assert f"ran out of memory ({error})" in caplog.text


def test_another_error_is_not_retried(new_runner):
    raised = []

    def break_down(_: Progress) -> None:
        raised.append(1)
        raise RuntimeError("shape mismatch")

    assert new_runner().run(SMALL, break_down).message == "RuntimeError: shape mismatch"
    assert len(raised) == 1


def test_bad_input_and_interrupts_are_raised(new_runner):
    runner = new_runner(subspace=SubspaceConfig("said"))
    with pytest.raises(D90Error, match="SAID"):
        runner.run(Trial(2, 0.1))

    def interrupt(_: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runner.run(SMALL, interrupt)


@pytest.mark.parametrize("method", ["did", "said"])
def test_a_killed_trial_resumes_bit_for_bit(new_runner, tmp_path: Path, method: str):
    options: dict[str, Any] = {"subspace": SubspaceConfig(method)}
    expected = new_runner(**options).run(SMALL)
    options.update(checkpoint_dir=tmp_path, checkpoint_every=4)

    def kill(progress: Progress) -> None:
        if progress.step == 15:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        new_runner(**options).run(SMALL, kill)
    assert len(list(tmp_path.iterdir())) == 1
    seen: list[Progress] = []
    result = new_runner(**options).run(SMALL, seen.append)
    assert seen[0].step == 13
    assert without_time(result) == without_time(expected)
    assert list(tmp_path.iterdir()) == []


def test_inputs_longer_than_the_model_takes(new_runner):
    with pytest.raises(D90Error, match="takes at most 32 tokens"):
        new_runner(max_length=64)


def test_a_model_that_does_not_fit_in_memory_is_not_loaded(
    new_runner, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(
        module.loading, "load", lambda *_, **__: pytest.fail("the model was loaded")
    )
    with pytest.raises(D90Error, match="lower the batch size"):
        new_runner(config=replace(CONFIG, batch_size=2**30))


def test_precisions_must_agree(new_runner):
    with pytest.raises(D90Error, match="give both the same"):
        new_runner(baseline_config=replace(CONFIG, precision="bf16"))


def test_estimates_of_time_and_memory(new_runner):
    runner = new_runner()
    for trial in (FULL, SMALL):
        estimated, seconds = runner.estimate_seconds(trial), runner.run(trial).seconds
        assert seconds / 20 < estimated < seconds * 20
    assert runner.estimate_memory(None).total > runner.estimate_memory(200).total


def test_real_model_in_a_subspace(bert_tiny: Path, toy_task: Task):
    settings = replace(CONFIG, max_steps=2)
    runner = TrialRunner(str(bert_tiny), toy_task, settings, max_length=16)
    result = runner.run(Trial(50, 0.01))
    assert result.status in ("ok", "collapsed")
