"""The flow from Python: what is run, what is reused, and what makes another study."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import d90
from d90.errors import D90Error
from d90.experiments.callbacks import Callback
from d90.experiments.problem import Problem
from d90.experiments.study import Study
from d90.search.protocols import ListProtocol
from d90.search.summary import Summary
from d90.search.trial import Trial, TrialResult
from d90.training import Progress, TrainConfig

TRAINING = TrainConfig(max_steps=12, batch_size=8, precision="no")
SEARCH = ListProtocol(dims=(10, 50), learning_rates=(0.01,), baseline_learning_rates=(0.01,))
FULL, SMALL, LARGE = Trial(None, 0.01), Trial(10, 0.01), Trial(50, 0.01)

NewStudy = Callable[..., Study]


class Log(Callback):
    """What happened, in order."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []
        self.steps = 0

    def on_study_begin(self, study: Study, results: Sequence[TrialResult]) -> None:
        self.events.append(("opened", len(results)))

    def on_trial_begin(self, trial: Trial) -> None:
        self.events.append(("started", trial))

    def on_progress(self, trial: Trial, progress: Progress) -> None:
        self.steps += 1

    def on_trial_end(
        self, study: Study, result: TrialResult, results: Sequence[TrialResult], *, reused: bool
    ) -> None:
        self.events.append(("reused" if reused else "ran", result.trial))

    def all(self, what: str) -> list[Any]:
        return [value for event, value in self.events if event == what]


@pytest.fixture
def new_study(ready_folder: Path, toy_folder: Path) -> NewStudy:
    def new(model: Path = ready_folder, task: Path = toy_folder, **options: Any) -> Study:
        protocol = options.pop("protocol", SEARCH)
        options = {"training": TRAINING, "head_seed": 3, **options}
        problem = d90.load_problem(str(model), task, max_length=16, **options)
        return Study(problem, protocol)

    return new


def test_measure_from_python(ready_folder: Path, toy_folder: Path, tmp_path: Path) -> None:
    log = Log()
    summary = d90.measure(
        str(ready_folder),
        toy_folder,
        protocol=replace(SEARCH, dims=(1, 10, 20), seeds=(0, 1)),
        training=TRAINING,
        max_length=16,
        head_seed=3,
        store=tmp_path / "d90.db",
        callback=log,
    )
    assert isinstance(summary, Summary)
    assert (summary.status, summary.D, summary.m, summary.full_metric) == ("ok", 5554, None, 1.0)
    assert summary.first_passing_d == 20  # One of two seeds trains at d = 10: unstable there.
    assert any(line.startswith("unstable at d = 1, 10: ") for line in summary.warnings)
    assert summary.d90 is not None
    assert summary.interval is not None
    assert summary.threshold == pytest.approx(0.9)
    assert (summary.majority, summary.task) == (0.53125, str(toy_folder))
    assert len(summary.trials) == 8
    assert log.all("opened") == [0]
    assert log.all("started") == log.all("ran") == [result.trial for result in summary.trials]
    assert log.steps == 12 * 8
    assert Summary.from_json(summary.to_json()).settings == summary.settings


def test_the_same_study_runs_nothing_again(new_study: NewStudy, tmp_path: Path) -> None:
    store = d90.Store(tmp_path / "d90.db")
    first, again = Log(), Log()
    one = d90.run_study(new_study(), store, callback=first)
    two = d90.run_study(new_study(), store, callback=again)
    assert first.all("ran") == [FULL, SMALL, LARGE]
    assert again.events == [("opened", 3)]
    assert one.trials == two.trials
    assert len(store.studies()) == 1
    facts = store.studies()[0].facts
    assert (facts["D"], facts["majority"]) == (5554, 0.53125)


def test_another_projection_is_another_study_with_the_same_baseline(
    new_study: NewStudy, tmp_path: Path
) -> None:
    store, log = d90.Store(tmp_path / "d90.db"), Log()
    first = d90.run_study(new_study(), store)
    second = d90.run_study(new_study(projection="onehot"), store, callback=log)
    assert log.all("opened") == [0]
    assert log.all("reused") == [FULL]
    assert log.all("ran") == [SMALL, LARGE]
    assert second.trials[0] == first.trials[0]
    assert len(store.studies()) == 2


def test_trials_that_may_be_stopped_are_others_with_the_same_baseline(
    new_study: NewStudy, tmp_path: Path
) -> None:
    store, log = d90.Store(tmp_path / "d90.db"), Log()
    hasty = replace(TRAINING, stop_hopeless=True)
    first = d90.run_study(new_study(training=hasty), store)
    second = d90.run_study(new_study(), store, callback=log)
    assert log.all("reused") == [FULL]
    assert log.all("ran") == [SMALL, LARGE]
    assert first.settings["training"]["stop_hopeless"] is True
    assert "stop_hopeless" not in second.settings["training"]
    again = Log()
    d90.run_study(new_study(training=replace(hasty, stop_hopeless=False)), store, callback=again)
    d90.run_study(new_study(training=hasty), store, callback=again)
    assert again.events == [("opened", 3)] * 2


def test_more_dimensions_keep_the_finished_runs(new_study: NewStudy, tmp_path: Path) -> None:
    store, log = d90.Store(tmp_path / "d90.db"), Log()
    d90.run_study(new_study(), store)
    d90.run_study(new_study(protocol=replace(SEARCH, dims=(10, 50, 20))), store, callback=log)
    assert log.all("ran") == [replace(SMALL, d=20)]
    assert log.all("reused") == [FULL, SMALL, LARGE]


def test_one_store_serves_every_criterion(new_study: NewStudy, tmp_path: Path) -> None:
    store, log = d90.Store(tmp_path / "d90.db"), Log()
    first = d90.run_study(new_study(), store)
    for criterion in ("brier", "nll"):
        summary = d90.run_study(new_study(criterion=criterion), store, callback=log)
        assert summary.quantity == f"d90[{criterion}]"
        assert summary.trials == first.trials
        full = next(trial for trial in first.trials if trial.trial.is_full)
        assert summary.full_metric == full.skills[criterion] < 1.0
        assert summary.threshold == pytest.approx(0.9 * full.skills[criterion])
        assert [p.best for p in summary.curve] == [
            max(skill, 0) for skill in (r.skills[criterion] for r in first.trials if r.trial.d)
        ]
        assert Summary.from_json(summary.to_json()).to_json() == summary.to_json()
    assert log.all("ran") == []
    assert len(store.studies()) == 3
    gain = d90.run_study(new_study(protocol=replace(SEARCH, criterion_of="gain")), store)
    assert gain.quantity == "d90[accuracy gain]"
    assert gain.threshold == pytest.approx(0.53125 + 0.9 * (1 - 0.53125))


def test_trials_without_skills_are_run_again_for_a_smooth_criterion(
    new_study: NewStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older d90 measured none."""
    store, log = d90.Store(tmp_path / "d90.db"), Log()
    with monkeypatch.context() as older:
        older.setattr("d90.training.state.TrainState.best_skills", {})
        old = d90.run_study(new_study(), store)
    assert all(result.skills == {} for result in old.trials)
    d90.run_study(new_study(criterion="brier"), store, callback=log)
    assert log.all("ran") == [FULL, SMALL, LARGE]
    assert d90.run_study(new_study(projection="fastfood"), store).trials == old.trials
    again = Log()
    d90.run_study(new_study(criterion="nll"), store, callback=again)
    assert again.all("ran") == []


def test_a_criterion_that_is_not_the_tasks_is_refused(new_study: NewStudy) -> None:
    with pytest.raises(D90Error, match="unknown criterion 'briar': did you mean 'brier'"):
        new_study(criterion="briar")
    with pytest.raises(D90Error, match="metric of this task is 'accuracy'"):
        new_study(criterion="f1")


def test_what_changes_a_result_changes_its_key(
    new_study: NewStudy, ready_folder: Path, toy_folder: Path, tmp_path: Path
) -> None:
    def key(trial: Trial = SMALL, **options: Any) -> str:
        return new_study(**options).problem.key(trial)

    dropout = Path(shutil.copytree(ready_folder, tmp_path / "dropout"))
    config = json.loads((dropout / "config.json").read_text())
    (dropout / "config.json").write_text(json.dumps({**config, "hidden_dropout_prob": 0.5}))
    words = Path(shutil.copytree(ready_folder, tmp_path / "words"))
    tokenizer = (words / "tokenizer.json").read_text()
    (words / "tokenizer.json").write_text(tokenizer.replace('"good"', '"fine"'))
    others = [
        key(LARGE),
        key(FULL),
        key(replace(SMALL, seed=1)),
        key(replace(SMALL, learning_rate=0.02)),
        key(method="said"),
        key(groups="tensor"),
        key(projection="sparse"),
        key(scale="rms"),
        key(head_seed=2),
        key(dtype="bfloat16"),
        key(max_train_samples=50),
        key(max_eval_samples=50),
        key(metric="f1"),
        key(training=replace(TRAINING, max_steps=13)),
        key(training=replace(TRAINING, batch_size=7)),
        key(model=dropout),
        key(model=words),
    ]
    assert len({key(), *others}) == 1 + len(others)


def test_what_changes_no_result_keeps_the_key(
    new_study: NewStudy, ready_folder: Path, toy_folder: Path, tmp_path: Path
) -> None:
    study = new_study()
    model = Path(shutil.copytree(ready_folder, tmp_path / "copy"))
    task = Path(shutil.copytree(toy_folder, tmp_path / "data"))
    copied = new_study(model=model, task=task, baseline_training=replace(TRAINING, max_steps=1))
    assert copied.problem.key(SMALL) == study.problem.key(SMALL)
    assert copied.problem.key(FULL) != study.problem.key(FULL)
    assert new_study(projection="sparse").problem.key(FULL) == study.problem.key(FULL)
    assert copied.name.startswith("copy-data-did-")


def test_settings_are_plain_and_complete(new_study: NewStudy) -> None:
    settings = new_study(method="said", scale="vectors").settings
    assert json.loads(json.dumps(settings)) == settings
    assert settings["subspace"] == {
        "method": "said",
        "groups": "layer",
        "projection": "fastfood",
        "scale": "vectors",
    }
    assert settings["protocol"]["name"] == "list"
    assert settings["protocol"]["dims"] == [10, 50]
    assert settings["baseline_training"]["optimizer"] == "adamw"
    assert "learning_rate" not in settings["training"]


@pytest.mark.parametrize("scale", ["tensor", "model", "rms", "vectors"])
@pytest.mark.parametrize("groups", ["layer", "module", "tensor"])
def test_counts_are_those_of_the_subspace(new_study: NewStudy, groups: str, scale: str) -> None:
    """D and m are counted before the weights are there."""
    study = new_study(
        method="said", groups=groups, scale=scale, protocol=replace(SEARCH, dims=(60,))
    )
    problem = study.problem
    assert isinstance(problem, Problem)
    subspace = d90.attach(problem.runner.model, d=60, method="said", groups=groups, scale=scale)
    assert (problem.D, problem.m) == (subspace.layout.D, subspace.layout.m)


def test_said_needs_more_parameters_than_groups(new_study: NewStudy) -> None:
    with pytest.raises(
        D90Error, match="d = 4 is too small for SAID with groups = 'layer': 4 of the d parameters"
    ):
        new_study(method="said", protocol=replace(SEARCH, dims=(4,)))
    assert new_study(method="said", protocol=replace(SEARCH, dims=(5,))).problem.facts["m"] == 4


def test_a_study_in_said(new_study: NewStudy, tmp_path: Path) -> None:
    summary = d90.run_study(new_study(method="said"), d90.Store(tmp_path / "d90.db"))
    assert summary.subspace is not None
    assert (summary.method, summary.subspace.groups, summary.m) == ("said", "layer", 4)
    assert all(result.trial in (FULL, SMALL, LARGE) for result in summary.trials)


def test_nothing_to_search_without_a_baseline(new_study: NewStudy, tmp_path: Path) -> None:
    """The head of this seed is wrong about every text, and this rate does not mend it."""
    search = replace(SEARCH, baseline_learning_rates=(1e-7,))
    summary = d90.run_study(new_study(protocol=search), d90.Store(tmp_path / "d90.db"))
    assert summary.d90 is None
    assert summary.status == "undefined-baseline"
