"""The dense reference's crossing, and the table of the repetitions."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from benchmarks.claims.repetitions import crossing, resampled_crossings, studies, table
from tests.helpers.studies import every_kind

from d90.search.trial import Trial, TrialResult


def test_crossing_by_hand() -> None:
    points = {10: 0.5, 100: 0.7, 1000: 0.9}
    assert crossing(points, 0.8) == pytest.approx(math.log(100 * math.sqrt(10)))
    assert crossing(points, 0.5) == -math.inf
    assert crossing(points, 0.91) == math.inf
    assert crossing({10: 0.5, 100: 0.8, 1000: 0.6, 10000: 0.9}, 0.75) < math.log(100)


def test_resampled_crossings() -> None:
    heights = {10: 0.5, 100: 0.7, 1000: 0.9}
    results = tuple(
        TrialResult(Trial(d, 0.008, seed), "ok", height + 0.02 * (seed - 1))
        for d, height in heights.items()
        for seed in range(3)
    )
    reference = replace(every_kind()["ok"], trials=results, target_fraction=0.9)
    found = resampled_crossings(reference, [0.88, 0.9], resamples=200)
    center = crossing(heights, 0.9 * 0.89)
    assert np.median(found) == pytest.approx(center, abs=0.1)
    assert 0.02 < np.std(found) < 0.5


def test_table() -> None:
    summary = replace(every_kind()["ok"], d90=100, interval=(50, 300), first_passing_d=100)
    text = table({study: replace(summary) for study in studies()})
    assert text.count("| 100 | 50 to 300 | 100 |") == 8
    assert "another repetition's interval: 20 of 20" in text
    assert "Intervals that have that crossing: " in text


def test_no_study_shares_a_seed() -> None:
    seeds = [option for study in studies() for option in study.options if "--seeds" in option]
    assert len(set(seeds)) == len(seeds) == 8
