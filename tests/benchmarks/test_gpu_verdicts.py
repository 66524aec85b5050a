"""What the parts that measure on a GPU call ok, given figures that no test machine can measure."""

from __future__ import annotations

import weakref
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from benchmarks.cases import Skip
from benchmarks.gpu import speed, steps, training, trials
from benchmarks.gpu.part import Setup
from benchmarks.methods import FULL, METHODS

from d90.search.trial import TrialResult

GPU = Setup("cuda", Path(".gpu"))
DID, SAID, ONEHOT = (name for name, method in METHODS.items() if method.subspace)
LORA = "PEFT LoRA, r = 8"


@pytest.fixture
def cuda(monkeypatch):
    """A GPU with 10 GB free, as far as torch tells."""
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: (10 * 10**9, 80 * 10**9))


def test_a_step_of_a_large_model_may_cost_a_tenth_more(monkeypatch):
    seconds = {FULL: [0.010] * 3, DID: [0.0109] * 3, SAID: [0.0112] * 3, LORA: [0.1] * 3}
    missing = {ONEHOT: RuntimeError("no kernel"), "PEFT UniLoRA, 1,000 parameters": Skip("none")}
    found = training.Comparison(seconds, dict.fromkeys(seconds, 2_000_000), missing)
    monkeypatch.setattr(training, "compare", lambda *_, **__: found)
    results = {result.name: result for result in training.measure(GPU)}
    assert len(results) == 4 * (len(seconds) + len(missing))
    verdicts = {name.rpartition(": ")[2]: r.ok for name, r in results.items() if "RoBERTa" in name}
    assert verdicts.pop(DID) is True
    assert verdicts.pop(SAID) is False and verdicts.pop(ONEHOT) is False
    assert set(verdicts.values()) == {None}
    small = [r.ok for name, r in results.items() if "MiniLM" in name and ONEHOT not in name]
    assert set(small) == {None}
    figures = results[f"RoBERTa-base shape, 32 x 128 tokens, bf16: {DID}"].value
    assert figures == pytest.approx({"ms": 10.9, "full AdamW steps": 1.09, "peak MB": 2})


def test_a_method_that_fails_is_missing(monkeypatch):
    def fail(model):
        raise RuntimeError("no kernel")

    methods = {FULL: training.METHODS[FULL], DID: SimpleNamespace(prepare=fail, subspace=True)}
    monkeypatch.setattr(training, "METHODS", methods)
    found = training.compare(training.TINY, "float32", "cpu", repetitions=2, calls=1)
    assert list(found.seconds) == [FULL] and len(found.seconds[FULL]) == 2
    assert str(found.missing[DID]) == "no kernel"


@pytest.mark.parametrize(("count", "ok"), [(4, True), (5, False)])
def test_one_sync_a_step_is_ok(count, ok, monkeypatch):
    lines = Counter({"training/loop.py:1": count - 1, "subspace/ops.py:2": 1})
    monkeypatch.setattr(steps, "sync_lines", lambda work: lines)

    def train() -> Any:
        return SimpleNamespace(optimizer_step=None)

    verdict, found = steps._syncs(GPU, train)
    assert verdict is ok
    assert found == {
        "in all": count / 4,
        "training/loop.py:1": (count - 1) / 4,
        "subspace/ops.py:2": 0.25,
    }


def test_kernels_have_aims_in_copies(monkeypatch):
    times = {"copy": 0.5, "apply": 0.6, "adjoint": 1.1}
    monkeypatch.setattr(speed, "_times", lambda *_: times)
    monkeypatch.setattr(speed, "SHAPES", ())
    results = {result.name: result for result in speed.measure(GPU)}
    size = "d = 1,000, D = 125,000,000"
    assert results[f"onehot apply, {size}"].ok is True
    assert results[f"onehot adjoint, {size}"].ok is False
    assert results[f"onehot adjoint, {size}"].value == {
        "copies": 2.2,
        "ms": 1.1,
        "copy ms": 0.5,
    }
    assert results["onehot apply, d = 1,000, D = 1,000,000,000"].ok is None


class Runner:
    """Trials that end as given, of one second, estimated at so many."""

    def __init__(self, *statuses: Any, estimate: float = 1.0) -> None:
        self.statuses, self.estimate = list(statuses), estimate
        self.is_full: list[bool] = []
        self.filler: Any = lambda: None

    def run(self, trial):
        self.is_full.append(self.filler() is not None)
        return TrialResult(trial, self.statuses.pop(0), seconds=1.0)

    def estimate_seconds(self, trial):
        return self.estimate


@pytest.mark.parametrize(("estimate", "ok"), [(0.76, True), (1.24, True), (0.74, False)])
def test_an_estimate_is_ok_within_a_quarter(estimate, ok):
    runner: Any = Runner("ok", estimate=estimate)
    verdict, _ = trials._seconds(GPU, runner, trials._trial(GPU, 0))
    assert verdict is ok


@pytest.mark.parametrize(
    ("statuses", "ok"),
    [(("failed", "ok"), True), (("ok", "ok"), False), (("failed", "failed"), False)],
)
def test_a_trial_fails_beside_a_full_gpu_and_the_next_does_not(statuses, ok, cuda, monkeypatch):
    runner: Any = Runner(*statuses)
    allocated = []

    class Filler:
        pass

    def empty(count, **_):
        filler = Filler()
        allocated.append(count)
        runner.filler = weakref.ref(filler)
        return filler

    monkeypatch.setattr(torch, "empty", empty)
    verdict, found = trials._out_of_memory(GPU, runner)
    assert verdict is ok
    assert found == {"beside": statuses[0], "message": "", "after": statuses[1]}
    assert allocated == [10 * 10**9 - 200 * 10**6]
    assert runner.is_full == [True, False]
