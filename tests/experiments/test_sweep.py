"""Many measurements as one: what is composed, shared, resumed and left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from d90.errors import D90Error
from d90.executors.runner import TrialRunner
from d90.experiments.study import Study
from d90.experiments.sweep import SweepCallback, SweepItem, build_sweep, run_sweep
from d90.search.protocols import GridProtocol, ListProtocol
from d90.search.summary import load_summaries
from d90.search.trial import Trial, TrialResult
from d90.storage.store import Store
from d90.training import TrainConfig

OPTIONS = {
    "training": TrainConfig(max_steps=4, batch_size=8, precision="no"),
    "max_length": 16,
    "projection": "onehot",
}
PROTOCOL = ListProtocol(dims=(10, 40), learning_rates=(0.01,), baseline_learning_rates=(0.01,))


class Counter(SweepCallback):
    """Counts the runs that train."""

    def __init__(self) -> None:
        self.trained: list[Trial] = []
        self.reused = 0
        self.items: list[tuple[str, int, int]] = []

    def on_item_begin(self, item: SweepItem, number: int, count: int) -> None:
        self.items.append((item.method, number, count))

    def on_trial_begin(self, trial: Trial) -> None:
        self.trained.append(trial)

    def on_trial_end(
        self, study: Study, result: TrialResult, results: object, *, reused: bool
    ) -> None:
        self.reused += reused


def items(model: Path, task: Path, **changes: object) -> tuple[SweepItem, ...]:
    options = {**OPTIONS, "methods": ["said", "did"], "protocol": PROTOCOL, **changes}
    return build_sweep([str(model)], [str(task)], **options)  # type: ignore[arg-type]


def test_a_baseline_is_shared_and_nothing_is_repeated(
    ready_folder: Path, toy_folder: Path, tmp_path: Path
) -> None:
    store, first, second = Store(tmp_path / "a.db"), Counter(), Counter()
    requested = items(ready_folder, toy_folder)
    result = run_sweep(requested, store, folder=tmp_path / "studies", callback=first)
    assert [s.method for s in result.summaries] == ["said", "did"]
    assert (len(first.trained), first.reused) == (5, 1)  # One baseline and 2 x 2 subspace runs.
    assert first.items == [("said", 1, 2), ("did", 2, 2)]
    assert not result.failures
    again = run_sweep(requested, store, callback=second)
    assert second.trained == []
    assert [s.trials for s in again.summaries] == [s.trials for s in result.summaries]
    summaries = load_summaries([tmp_path / "studies", tmp_path])
    assert {s.method for s in summaries} == {"said", "did"} and len(summaries) == 2
    assert summaries[0].family == "bert"
    assert summaries[0].examples == {"train": 96, "train_metric": 64, "metric": 64}


def test_an_interrupt_loses_only_the_running_trial(
    ready_folder: Path, toy_folder: Path, tmp_path: Path
) -> None:
    class Interrupting(Counter):
        def on_trial_begin(self, trial: Trial) -> None:
            super().on_trial_begin(trial)
            if len(self.trained) == 4:
                raise KeyboardInterrupt

    store, requested = Store(tmp_path / "a.db"), items(ready_folder, toy_folder)
    with pytest.raises(KeyboardInterrupt):
        run_sweep(requested, store, callback=Interrupting())
    rest = Counter()
    run_sweep(requested, store, callback=rest)
    assert len(rest.trained) == 2


def test_dimensions_that_a_model_lacks_are_left_out(ready_folder: Path, toy_folder: Path) -> None:
    wide = ListProtocol(dims=(1, 3, 10, 10**9), learning_rates=(0.01,))
    said, did = items(ready_folder, toy_folder, protocol=wide)
    assert did.protocol.dimensions() == (1, 3, 10)
    assert said.protocol.dimensions() == (10,)  # m = 4 of the d parameters are scales.
    (grid,) = items(ready_folder, toy_folder, methods=["did"], protocol=GridProtocol(max_dim=10**6))
    assert max(grid.protocol.dimensions()) == grid.load().D
    with pytest.raises(D90Error, match=r"DID: none of the dimensions lies from 1 to"):
        items(ready_folder, toy_folder, methods=["did"], protocol=ListProtocol(dims=(10**9,)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": []}, "no method: give at least one"),
        ({"methods": ["did", "did"]}, "duplicate method 'did'"),
        ({"methods": ["dit"]}, "unknown method 'dit': did you mean 'did'"),
        ({"groups": "layers"}, "unknown groups 'layers'"),
        ({"metric": "f2"}, "unknown metric 'f2'"),
    ],
)
def test_bad_input_is_refused_before_training(
    changes: dict[str, object], message: str, ready_folder: Path, toy_folder: Path
) -> None:
    with pytest.raises(D90Error, match=message):
        items(ready_folder, toy_folder, **changes)


def test_an_item_that_cannot_be_measured_is_named(
    ready_folder: Path, toy_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = TrialRunner.__init__

    def too_large(self: TrialRunner, *arguments: object, **options: object) -> None:
        if options["subspace"].method == "said":  # type: ignore[attr-defined]
            raise D90Error("not enough memory: use a smaller batch.")
        original(self, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(TrialRunner, "__init__", too_large)
    result = run_sweep(items(ready_folder, toy_folder), Store(tmp_path / "a.db"))
    assert [s.method for s in result.summaries] == ["did"]
    (name,) = result.failures
    assert name.endswith("SAID") and "not enough memory" in result.failures[name]
