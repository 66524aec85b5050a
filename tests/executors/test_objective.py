"""What a user's function returns, as the result of a trial."""

from __future__ import annotations

import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch

from d90.errors import D90Error
from d90.executors.objective import ObjectiveRunner, _unpickled, result_of
from d90.search.trial import Trial, TrialResult

TRIAL = Trial(10, 0.01, 3)


@pytest.mark.parametrize(
    "value", [0.5, np.float32(0.5), np.array(0.5), torch.tensor(0.5), torch.tensor([[0.5]])]
)
def test_any_number_is_a_score(value: object) -> None:
    assert result_of(value, TRIAL) == TrialResult(TRIAL, "ok", metric=0.5)


def test_the_ends_of_the_range() -> None:
    assert result_of(1 + 1e-7, TRIAL).metric == 1.0
    assert [result_of(score, TRIAL).metric for score in (1, 0, -1.0, True)] == [1, 0, -1, 1]


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf, -1.01, -200])
def test_a_score_without_a_place_on_the_curve_is_of_a_run_that_diverged(score: float) -> None:
    result = result_of(score, TRIAL)
    assert (result.status, result.metric) == ("diverged", None)
    assert f"{score:.4g}" in result.message
    whole = TrialResult(TRIAL, "ok", metric=score, train_metric=math.nan)
    assert result_of(whole, TRIAL) == result


@pytest.mark.parametrize("value", [None, "0.5", 1j, np.array([0.5, 0.6]), torch.ones(2), [0.5]])
def test_what_is_no_number(value: object) -> None:
    with pytest.raises(D90Error, match="expected a number or a TrialResult") as raised:
        result_of(value, TRIAL)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "value",
    [
        1.001,
        37,
        TrialResult(TRIAL, "ok", metric=2.0),
        TrialResult(TRIAL, "ok", metric=0.5, train_metric=2.0),
    ],
)
def test_a_score_above_1(value: object) -> None:
    with pytest.raises(D90Error, match="scale it so that 0 is worthless and 1 the best"):
        result_of(value, TRIAL)


def test_a_whole_result_is_kept_but_for_its_trial() -> None:
    given = TrialResult(Trial(None, 1.0), "collapsed", 0.4, 0.45, 2.5, {"test/f1": 0.3})
    expected = TrialResult(TRIAL, "collapsed", 0.4, 0.45, 2.5, {"test/f1": 0.3})
    assert ObjectiveRunner(lambda _: given, "own").run(TRIAL) == expected
    with pytest.raises(D90Error, match="no metric"):
        result_of(TrialResult(TRIAL, "ok"), TRIAL)
    with pytest.raises(D90Error, match="unknown status 'fine'"):
        result_of(TrialResult(TRIAL, "fine"), TRIAL)  # type: ignore[arg-type]


def test_a_trial_is_timed() -> None:
    assert ObjectiveRunner(lambda _: 0.5, "own").run(TRIAL).seconds > 0


def test_an_equal_runner_in_another_process() -> None:
    function: Any = math.ceil
    runner = pickle.loads(pickle.dumps(ObjectiveRunner(function, "own").factory))()
    assert (runner.function, runner.name) == (function, "own")
    lost = pickle.dumps(function).replace(b"ceil", b"ciel")
    with pytest.raises(D90Error, match="define it at the top level of a module in a file"):
        _unpickled(lost, "own")
