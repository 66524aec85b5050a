"""summary.json: its keys, its round trip, and the errors of a broken file."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from tests.helpers.studies import HISTORY, every_kind, runs, study

from d90.errors import D90Error
from d90.report import render_document, study_document
from d90.search.subspace_config import SubspaceConfig
from d90.search.summary import Summary
from d90.search.trial import Trial, TrialResult

REQUIRED = {
    "model", "task", "method", "groups", "projection", "scale", "D", "majority", "full_metric",
    "threshold", "d90", "status", "interval", "trials", "versions",
}  # fmt: skip
REQUIRED_OF_AN_OBJECTIVE = REQUIRED - {
    "model", "task", "method", "groups", "projection", "scale",
} | {"objective"}  # fmt: skip
REQUIRED_OF_A_TRIAL = {
    "d", "learning_rate", "seed", "metric", "train_metric", "status", "seconds",
}  # fmt: skip


def strict_json(text: str) -> dict:
    def refuse(constant: str) -> float:
        raise ValueError(constant)

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("kind", every_kind())
def test_has_the_promised_keys_and_reads_back_the_same(kind: str) -> None:
    summary = every_kind()[kind]
    data = strict_json(summary.to_json())
    assert data.keys() >= (REQUIRED_OF_AN_OBJECTIVE if summary.objective else REQUIRED)
    assert data["trials"] == [] or data["trials"][0].keys() >= REQUIRED_OF_A_TRIAL
    assert len(data["trials"]) == len(summary.trials)
    assert Summary.from_json(summary.to_json()).to_json() == summary.to_json()


def test_the_history_survives_in_its_order() -> None:
    summary = every_kind()["adaptive"]
    assert Summary.from_json(summary.to_json()).history == summary.history == HISTORY
    data = json.loads(summary.to_json())
    for key, value in (("d", "72"), ("low", 0), ("seed", -1)):
        history = [{**data["history"][0], key: value}]
        with pytest.raises(D90Error, match=f"history.*{key}"):
            Summary.from_json(json.dumps({**data, "history": history}))
    del data["history"]
    assert Summary.from_json(json.dumps(data)).history == ()


def test_an_objective_has_no_model() -> None:
    summary = every_kind()["own"]
    assert (summary.title, summary.method, summary.model) == (summary.objective, "", "")
    data = strict_json(summary.to_json())
    assert not {"model", "task", "method", "groups", "m", "family"} & data.keys()
    assert Summary.from_json(summary.to_json()).title == summary.title == data["objective"]
    del data["objective"]
    with pytest.raises(D90Error, match="model"):
        Summary.from_json(json.dumps(data))
    assert every_kind()["ok"].title == "minilm-l6 on mrpc, SAID"
    with pytest.raises(D90Error, match="D"):  # Only an objective may have none.
        Summary.from_json(json.dumps({**strict_json(every_kind()["ok"].to_json()), "D": None}))


def test_values_survive() -> None:
    summary = every_kind()["seeds"]
    again = Summary.from_json(summary.to_json())
    assert replace(again, trials=(), settings={}) == replace(summary, trials=(), settings={})
    assert set(map(repr, again.trials)) == set(map(repr, summary.trials))


def test_the_scores_of_the_pretrained_model_survive() -> None:
    scores = {"token_accuracy": 0.25, "nll": 3.5}
    summary = study(runs([10]), reference="majority token", initial=scores)
    data = strict_json(summary.to_json())
    assert (data["reference"], data["initial"]) == ("majority token", scores)
    assert Summary.from_json(summary.to_json()).initial == scores
    assert "initial" not in strict_json(every_kind()["ok"].to_json())
    with pytest.raises(D90Error, match="initial"):
        Summary.from_json(json.dumps({**data, "initial": {"nll": "3.5"}}))


def test_the_order_of_the_runs_does_not_matter() -> None:
    summary = every_kind()["seeds"]
    assert replace(summary, trials=summary.trials[::-1]).to_json() == summary.to_json()


def test_the_subspace_has_a_key_for_each_of_its_names() -> None:
    subspace = SubspaceConfig("did", "module", "dense", "rms")
    data = strict_json(study([], subspace=subspace).to_json())
    assert [*data][4:9] == ["method", "groups", "m", "projection", "scale"]
    assert {name: data[name] for name in subspace.names()} == subspace.names()


def test_full_fine_tuning_comes_first_with_null_for_d() -> None:
    trials = strict_json(every_kind()["ok"].to_json())["trials"]
    assert [trial["d"] for trial in trials[:3]] == [None, None, 10]


def test_nan_becomes_null_and_numpy_becomes_plain() -> None:
    result = TrialResult(Trial(10, 0.01), "diverged", math.nan, math.inf, 1.0, {"f1": math.nan})
    summary = study([result], full_metric=np.float32(0.5), settings={"path": Path("a")})
    summary = replace(summary, D=np.int64(7))
    data = strict_json(summary.to_json())
    assert data["trials"][0]["metric"] is None
    assert data["trials"][0]["train_metric"] is None
    assert data["trials"][0]["metrics"] == {"f1": None}
    assert (data["D"], data["full_metric"], data["settings"]) == (7, 0.5, {"path": "a"})


def test_the_curve_is_the_best_rate_at_each_d_averaged_over_seeds() -> None:
    metrics = {(0.1, 0): 0.6, (0.2, 0): 0.8, (0.1, 1): 0.7, (0.2, 1): 0.5}
    results = [TrialResult(Trial(10, rate, seed), "ok", m) for (rate, seed), m in metrics.items()]
    assert strict_json(study(results).to_json())["curve"] == [{"d": 10, "metric": 0.75}]


def test_a_file_of_before_the_criteria_is_read() -> None:
    summary = every_kind()["ok"]
    data = strict_json(summary.to_json())
    data["format"] = 3
    del data["criterion"], data["criterion_of"]
    for trial in data["trials"]:
        del trial["skills"]
    again = Summary.from_json(json.dumps(data))
    assert (again.criterion, again.quantity) == (summary.metric, "d90")
    assert again.to_json() == summary.to_json()


@pytest.mark.parametrize(
    ("key", "value"), [("criterion", "f1"), ("criterion", ""), ("criterion_of", "loss")]
)
def test_another_criterion_than_there_is_is_refused(key: str, value: str) -> None:
    data = strict_json(every_kind()["ok"].to_json())
    with pytest.raises(D90Error, match=f"summary.json: (unknown )?{key}"):
        Summary.from_json(json.dumps({**data, key: value}))


def test_loads_a_file_or_its_folder(tmp_path: Path) -> None:
    summary = every_kind()["ok"]
    (tmp_path / "summary.json").write_text(summary.to_json(), encoding="utf-8")
    assert Summary.load(tmp_path) == Summary.load(tmp_path / "summary.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "format 'list'"),
        ('{"format": 99}', "format 99"),
        ('{"format": 2}', "'trials' is missing"),
        ('{"format": 2, "trials": [{}]}', "'d' is missing"),
        ('{"format": 2, "trials": [3]}', "summary.json"),
        ('{"format": 2, "trials": [], "warnings": [], "interval": null}', "missing"),
        ('{"format": 2, "trials": ' + "1" * 5000 + "}", "a number of 5,000 digits"),
        ("[" * 100_000, "nested too deeply"),
        ('{"format": 2, "model": "\\ud800"}', "a lone surrogate"),
        (
            every_kind()["nothing"].to_json().replace('"fastfood"', '"slowfood"'),
            "summary.json: unknown projection 'slowfood'",
        ),
    ],
)
def test_a_broken_file_gets_one_line(text: str, message: str) -> None:
    with pytest.raises(D90Error, match=message) as caught:
        Summary.from_json(text)
    assert "\n" not in str(caught.value)


def test_a_missing_file_gets_one_line(tmp_path: Path) -> None:
    with pytest.raises(D90Error, match="d90 measure"):
        Summary.load(tmp_path)


def mutated(data: dict, path: tuple[str | int, ...], value: object) -> str:
    again = json.loads(json.dumps(data))
    inner = again
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return json.dumps(again)


WRONG: list[object] = [
    None, True, -1, 0, 1.5, -1.5, 10**299, 1e308, float("nan"), "", "x", [], ["x"], [1, 2, 3], {},
    {"x": []}, [[]], "\x1b[31m",
]  # fmt: skip


@pytest.mark.parametrize("kind", ["seeds", "own"])
@pytest.mark.parametrize("value", WRONG, ids=repr)
def test_a_value_of_another_type_or_range_is_refused_or_harmless(value: object, kind: str) -> None:
    """Whatever is accepted can be shown: nothing but `D90Error` in all the places of a value."""
    data = json.loads(every_kind()[kind].to_json())
    places: list[tuple[str | int, ...]] = [(key,) for key in data]
    places += [("trials", 3, key) for key in data["trials"][3]]
    places += [
        ("examples", "train"),
        ("objective",),
        ("interval", 0),
        ("warnings", 0),
        ("trials", 0),
    ]
    data["warnings"] = ["a warning"]
    refused = 0
    for place in places:
        try:
            summary = Summary.from_json(mutated(data, place, value))
        except D90Error:
            refused += 1
            continue
        document = study_document(summary)
        Console(file=io.StringIO()).print(render_document(document))
        assert [table.csv() for table in document.tables]
    assert refused >= 10


@pytest.mark.parametrize("format", [2, 3])
def test_a_file_without_a_d90_has_none(format: int) -> None:
    """In format 2, `d90` is what `first_passing_d` is in format 3."""
    data = {**json.loads(every_kind()["ok"].to_json()), "format": format}
    assert Summary.from_json(json.dumps(data)).d90 == data.pop("d90") is not None
    summary = Summary.from_json(json.dumps(data))
    assert summary.d90 is None
    assert summary.first_passing_d == (None if format == 2 else data["first_passing_d"])


def test_a_d90_without_a_trial_is_refused() -> None:
    data = json.loads(every_kind()["ok"].to_json())
    with pytest.raises(D90Error, match="it has a d90, but no trial in a subspace that trained"):
        Summary.from_json(json.dumps({**data, "trials": []}))
