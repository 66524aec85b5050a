"""Metrics on predictions counted by hand."""

from __future__ import annotations

import pytest

from d90.errors import D90Error
from d90.tasks import METRICS, majority_score, score

LABELS = [1, 1, 1, 0, 0]
PREDICTIONS = [1, 1, 0, 1, 0]  # class 1: 2 hits, 1 missed, 1 false; class 0: 1, 1, 1


@pytest.mark.parametrize(
    ("metric", "expected"), [("accuracy", 3 / 5), ("f1", 2 / 3), ("macro_f1", (2 / 3 + 1 / 2) / 2)]
)
def test_score(metric: str, expected: float) -> None:
    assert score(metric, LABELS, PREDICTIONS) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("metric", "expected"), [("accuracy", 3 / 5), ("f1", 3 / 4), ("macro_f1", 3 / 8)]
)
def test_majority_score_is_that_of_the_best_constant(metric: str, expected: float) -> None:
    assert majority_score(metric, LABELS) == pytest.approx(expected)


def test_the_best_constant_for_f1_is_not_the_majority_class() -> None:
    assert majority_score("f1", [0, 0, 0, 1]) == pytest.approx(2 / 5)


def test_every_metric_is_tested_here() -> None:
    assert set(METRICS) == {"accuracy", "f1", "macro_f1"}


@pytest.mark.filterwarnings("error")
def test_a_class_never_predicted_is_no_warning() -> None:
    assert score("f1", [0, 1], [0, 0]) == 0.0


def test_unknown_metric() -> None:
    with pytest.raises(D90Error, match="did you mean 'accuracy'"):
        score("acuracy", LABELS, PREDICTIONS)
