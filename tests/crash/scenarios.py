"""Commands that write files of every kind, on a tiny model and a tiny corpus."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from safetensors.torch import save
from tests.crash.harness import Scenario
from tests.helpers import tiny
from tests.helpers.studies import every_kind, metric_at

from d90.cli import main
from d90.executors.runner import TrialRunner
from d90.search.trial import Trial, TrialResult
from d90.storage.store import Store
from d90.training import TrainConfig, train
from d90.utils.files import atomic_write

TRAINING = ["--max-length", "16", "--batch-size", "8", "--precision", "no", "--max-steps", "3"]


def make_inputs(folder: Path) -> None:
    """Write the model, the task, the corpus and the study that the commands are given."""
    folder.mkdir()
    tiny.write_tiny_model(folder / "model")
    tiny.write_task(tiny.toy_task(), folder / "task")
    (folder / "study").mkdir()
    (folder / "study" / "summary.json").write_text(every_kind()["ok"].to_json())
    sentences = (f"the {tiny.FILLER[i % 6]} is {tiny.GOOD[i % 2]} at {i}" for i in range(200))
    (folder / "corpus.txt").write_text("\n\n".join(sentences))


def scenarios(inputs: Path) -> dict[str, Scenario]:
    """Every scenario by its name.

    Args:
        inputs: from `make_inputs`.
    """
    model, task = str(inputs / "model"), str(inputs / "task")
    measure = ["measure", model, task, "--dims", "10,100", "--learning-rates", "0.01"]
    pretrain = ["pretrain", str(inputs / "corpus.txt"), "--size", "nano", "--vocab-size", "290"]
    found = [
        Scenario("store", _study, contents={"d90.db": _store_content}),
        Scenario(
            "measure",
            _d90(*measure, *TRAINING, "--store", "d90.db", "--output", "out", trial=_known_result),
            contents={"d90.db": _store_content},
        ),
        Scenario(
            "report",
            _d90("report", str(inputs / "study"), "--output", "."),
            prepare=_older_report,
        ),
        Scenario("adapter", _d90("tune", model, task, "-d", "50", *TRAINING, "-o", "a.st")),
        Scenario("checkpoint", lambda: _train(model)),
        Scenario(
            "tokens",
            _d90(*pretrain, *TRAINING, "--checkpoints", "2", "-o", "out"),
        ),
    ]
    return {scenario.name: scenario for scenario in found}


def _d90(*arguments: str, trial: Callable[..., TrialResult] | None = None) -> Callable[[], None]:
    """A command line; `trial` instead of training."""

    def command() -> None:
        with mock.patch.object(sys, "argv", ["d90", *arguments]):
            if trial is not None:
                TrialRunner.run = trial
            main(list(arguments))

    return command


def _study() -> None:
    """Two studies that share a run, without the models of `d90 measure`."""
    for seed in range(2):
        with Store("d90.db").study({"seed": seed}, "study") as study:
            study.set_facts({"D": 1000 + seed})
            done = {result.trial for result in study.results()}
            for trial in (Trial(None, 1e-4), Trial(10 + seed, 0.01)):
                if trial not in done and study.reuse(trial, str(trial)) is None:
                    study.finish(study.start(trial, str(trial)), _known_result(None, trial))


def _known_result(_: TrialRunner | None, trial: Trial, *__: Any, **___: Any) -> TrialResult:
    """A result at once: what is written is what counts here."""
    metric = metric_at(trial.d or 10**6, trial.learning_rate, trial.seed)
    return TrialResult(trial, "ok", metric, metric, 1.0)


def _store_content(path: Path) -> object:
    """Studies and their finished trials; attempts that were interrupted are none."""
    with sqlite3.connect(path) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    store = Store(path, create=False)
    return [
        (study.name, study.settings, study.facts, [r.to_json() for r in store.results(study.name)])
        for study in store.studies()
    ]


def _older_report() -> None:
    for name in ("trials.csv", "curve.svg", "curve.png", "index.html"):
        Path(name).write_text("an older report\n" * 1000)


def _train(model: str) -> None:
    """Train with a checkpoint after every step, and keep the final weights."""
    config = TrainConfig(max_steps=4, batch_size=8, precision="no")
    runner = TrialRunner(model, tiny.toy_task(), config, max_length=16)
    train(
        runner.model,
        runner.data,
        config,
        learning_rate=0.01,
        checkpoint_dir=Path("run"),
        checkpoint_every=1,
    )
    weights = {name: value.detach().clone() for name, value in runner.model.named_parameters()}
    atomic_write(Path("weights.st"), save(weights))
