"""Scores by each criterion, the threshold of each, and every protocol on each of them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from d90.errors import D90Error
from d90.search.criteria import (
    MAJORITY_CLASS,
    PRETRAINED_MODEL,
    check_criterion,
    collapse_floor,
    has_score,
    quantity_name,
    score_threshold,
    scored,
)
from d90.search.curve import full_metric
from d90.search.estimate import estimate
from d90.search.protocols import PROTOCOLS, Protocol, make_protocol
from d90.search.trial import Trial, TrialResult

MAJORITY, FULL = 0.55, 0.85
CROSSING = {"accuracy": 120, "brier": 900, "nll": 2500}
"""The d at which each score reaches 0.9 of full fine-tuning's, or of its gain."""

FULL_SKILL = {"brier": 0.42, "nll": 0.36}


def world(trial: Trial) -> TrialResult:
    """A run whose scores are smooth functions of d, and cross their lines at `CROSSING`."""
    if trial.d is None:
        rate_loss = 0.0 if trial.learning_rate == 1e-4 else 0.01
        return TrialResult(trial, "ok", FULL - rate_loss, skills=dict(FULL_SKILL))
    off = 0.03 * abs(math.log2(trial.learning_rate / 0.008))
    wiggle = 0.004 * math.sin(37.1 * trial.d + 11.3 * trial.seed + 900 * trial.learning_rate)

    x = math.log(trial.d)

    def height(crossing: int, share: float) -> float:
        """Rises with ln d, and is `share` of the whole gain at the crossing."""
        return 1 / (1 + math.exp(-(x - math.log(crossing) + math.log(share / (1 - share)))))

    share = (0.9 * FULL - MAJORITY) / (FULL - MAJORITY)
    gain = FULL - MAJORITY
    metric = MAJORITY + gain * (height(CROSSING["accuracy"], share) - off + wiggle)
    skills = {
        name: full * (height(CROSSING[name], 0.9) - off + wiggle)
        for name, full in FULL_SKILL.items()
    }
    return TrialResult(trial, "ok", metric, skills=skills)


def driven(protocol: Protocol, criterion: str) -> list[TrialResult]:
    """The results of a study by the criterion, as the protocol asks for them."""
    floor = MAJORITY if criterion == "accuracy" else 0.0
    protocol = protocol.for_task(majority=floor, evaluation_size=4000)
    results: list[TrialResult] = []
    while due := protocol.next_trials(scored(results, criterion)):
        results += map(world, due)
    return results


def new_protocol(name: str) -> Protocol:
    options: dict[str, Any] = {"dims": (30, 100, 300, 1000, 3000, 9000)} if name == "list" else {}
    if name == "grid":
        options = {"num_dims": 12}
    if name in ("adaptive", "bisect"):
        options = {"min_dim": 10, "max_dim": 30_000}
    return make_protocol(name, learning_rates=(0.004, 0.008), **options)


@pytest.mark.parametrize("criterion", CROSSING)
@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_finds_the_crossing_of_each_criterion(name: str, criterion: str) -> None:
    protocol = new_protocol(name)
    results = driven(protocol, criterion)
    answer = estimate(
        scored(results, criterion),
        majority=MAJORITY if criterion == "accuracy" else 0.0,
        evaluation_size=4000,
        dims=protocol.dimensions(),
    )
    assert answer.full_metric == pytest.approx({"accuracy": FULL, **FULL_SKILL}[criterion])
    assert answer.d90 is not None
    assert abs(math.log(answer.d90 / CROSSING[criterion])) < 0.45


def test_the_metric_is_left_as_it_is() -> None:
    results = [world(Trial(d, 0.008)) for d in (10, 100, 1000)]
    assert scored(results, "accuracy") == results


def test_a_skill_takes_the_place_of_the_metric() -> None:
    result = world(Trial(1000, 0.008))
    (brier,) = scored([result], "brier")
    assert brier.metric == result.skills["brier"]
    assert brier.train_metric is None
    assert (brier.trial, brier.status) == (result.trial, "ok")


@pytest.mark.parametrize("skill", [0.0, -3.5, -math.inf])
def test_a_run_that_knows_the_class_shares_at_most_has_collapsed(skill: float) -> None:
    result = replace(world(Trial(10, 0.008)), skills={"nll": skill})
    (nll,) = scored([result], "nll")
    assert (nll.status, nll.metric, nll.is_valid) == ("collapsed", None, False)
    assert "nll skill" in nll.message


def test_a_run_that_predicts_one_class_may_have_learned_probabilities() -> None:
    result = TrialResult(
        Trial(10, 0.008), "collapsed", 0.5, skills={"nll": 0.02, "brier": -0.1}, message="one class"
    )
    (nll,), (brier,), (metric,) = (scored([result], c) for c in ("nll", "brier", "accuracy"))
    assert (nll.status, nll.metric, nll.message) == ("ok", 0.02, "")
    assert (brier.status, brier.metric) == ("collapsed", None)
    assert metric == result
    stopped = replace(result, status="stopped")
    assert not scored([stopped], "nll")[0].is_valid


@pytest.mark.parametrize("reference", [PRETRAINED_MODEL, "floor", MAJORITY_CLASS])
def test_a_run_that_is_not_above_the_floor_has_collapsed(reference: str) -> None:
    trials = [Trial(None, 1e-4), Trial(10, 0.008), Trial(20, 0.008), Trial(30, 0.008)]
    results = [
        TrialResult(trial, "ok", metric)
        for trial, metric in zip(trials, (0.3, 0.1, 0.3, 0.31), strict=True)
    ]
    statuses = [r.status for r in scored(results, "score", collapse_floor(0.3, reference))]
    collapsed = "ok" if reference == MAJORITY_CLASS else "collapsed"
    assert statuses == ["ok", collapsed, collapsed, "ok"]


def test_a_run_without_skills_is_no_point_and_is_not_reused() -> None:
    old = replace(world(Trial(10, 0.008)), skills={})
    assert not scored([old], "brier")[0].is_valid
    assert not has_score(old, "brier")
    assert has_score(old, "accuracy")
    assert has_score(replace(old, status="diverged"), "brier")
    assert has_score(world(Trial(10, 0.008)), "brier")


def test_the_best_rate_of_the_baseline_is_by_the_criterion() -> None:
    runs = [
        TrialResult(Trial(None, 1e-4), "ok", 0.85, skills={"brier": 0.3}),
        TrialResult(Trial(None, 5e-5), "ok", 0.84, skills={"brier": 0.4}),
    ]
    assert full_metric(runs) == 0.85
    assert full_metric(scored(runs, "brier")) == 0.4


def test_a_threshold_is_that_of_the_losses() -> None:
    """L <= L_M - q (L_M - L_full) is the same line as skill >= q skill_full."""
    constant, full, q = 0.69, 0.41, 0.9
    line = 1 - (constant - q * (constant - full)) / constant
    skill = 1 - full / constant
    for criterion_of in ("metric", "gain"):
        passing = score_threshold(skill, floor=0.0, target_fraction=q, criterion_of=criterion_of)
        assert passing == pytest.approx(line)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_fraction_of_the_gain_is_a_higher_line(name: str) -> None:
    protocol = replace(new_protocol(name), criterion_of="gain")
    results = driven(protocol, "accuracy")
    answer = estimate(
        results,
        majority=MAJORITY,
        criterion_of="gain",
        evaluation_size=4000,
        dims=protocol.dimensions(),
    )
    assert answer.threshold == pytest.approx(MAJORITY + 0.9 * (FULL - MAJORITY))
    assert answer.d90 is not None
    share = (0.9 * FULL - MAJORITY) / (FULL - MAJORITY)
    crossing = 120 * (0.9 / 0.1) / (share / (1 - share))
    assert abs(math.log(answer.d90 / crossing)) < 0.45


def test_a_gain_is_never_trivial() -> None:
    """0.9 of the metric may be below the majority class; a fraction of a gain is above it."""
    runs = [TrialResult(Trial(None, 1e-4), "ok", 0.58), TrialResult(Trial(10, 0.008), "ok", 0.57)]
    assert estimate(runs, majority=MAJORITY).status == "trivial-threshold"
    assert estimate(runs, majority=MAJORITY, criterion_of="gain").threshold == pytest.approx(0.577)


def test_names() -> None:
    assert check_criterion(None, "f1") == "f1"
    assert check_criterion("nll", "f1") == "nll"
    with pytest.raises(D90Error, match="metric of this task is 'f1', so expected f1, brier or nll"):
        check_criterion("accuracy", "f1")
    assert quantity_name(0.9, "brier", "accuracy", "gain") == "d90[brier]"
    with pytest.raises(D90Error, match="unknown criterion_of 'loss'"):
        make_protocol("grid", criterion_of="loss")
    with pytest.raises(D90Error, match="unknown criterion_of 'loss'"):
        estimate([], majority=0.5, criterion_of="loss")
