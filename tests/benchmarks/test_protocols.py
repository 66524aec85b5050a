"""The adaptive protocol on simulated worlds: within bounds that a broken model exceeds."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from benchmarks.protocols import scores, study, table
from benchmarks.worlds import FAMILIES, NOISES, OUTSIDE, make_world

from d90.search.trial import Trial


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("family", [*FAMILIES, *OUTSIDE])
def test_worlds(family: str, noise: str) -> None:
    for number in range(3):
        world = make_world(family, number, noise)
        if family == "unreachable":
            assert world.log_d90 == math.inf
        elif family == "easy":
            assert 0 <= world.log_d90 < math.log(10)
        else:
            assert math.log(10) < world.log_d90 < math.log(100_000)
            at = np.array([world.log_d90 - 0.01, world.log_d90 + 0.01])
            below, above = world.best(at)
            assert below < world.threshold <= above
        trial = Trial(300, 0.008, 4)
        assert world.run(trial) == make_world(family, number, noise).run(trial)


def test_the_noise_of_a_world_is_what_it_says() -> None:
    world = make_world("logistic", 1, "real")
    trials = [Trial(100_000, 0.008, seed) for seed in range(400)]
    metrics = [r.metric for t in trials if (r := world.run(t)).is_valid and r.metric is not None]
    assert len(metrics) == pytest.approx(0.95 * 400, abs=20)
    assert np.std(metrics) == pytest.approx(world.tau, rel=0.15)
    mean = float(world.mean(np.array(math.log(100_000)), 0.008))
    assert np.mean(metrics) == pytest.approx(mean, abs=4 * world.tau / 20)


def test_errors_and_coverage_of_the_adaptive_protocol() -> None:
    keys = [
        (family, "real", number)
        for family in ("logistic", "sharp", "collapse", "unreachable")
        for number in range(4)
    ]
    lines = [study("adaptive", *key) for key in keys]
    found = scores([line for line in lines if line["family"] != "unreachable"])
    assert abs(found["bias"]) < 0.15
    assert found["rms"] < 0.3
    assert found["off by 2"] == 0
    assert found["coverage"] >= 10 / 12
    assert found["runs"] <= 24
    assert scores(lines)["right"] == 1


def test_a_seed_has_the_same_luck_at_every_d() -> None:
    world = make_world("logistic", 1, "real")
    at = {d: float(world.mean(np.array(math.log(d)), 0.008)) for d in (30_000, 100_000)}
    pairs = []
    for seed in range(400):
        runs = [world.run(Trial(d, 0.008, seed)) for d in at]
        if all(run.is_valid for run in runs):
            pairs.append([(run.metric or 0) - at[run.trial.d or 0] for run in runs])
    assert np.corrcoef(np.array(pairs).T)[0, 1] == pytest.approx(0.5, abs=0.12)


def test_scores_by_hand() -> None:
    line = {"runs": 10, "status": "ok", "range": [10, 1000]}
    lines = [
        {**line, "d90": 100, "interval": [50, 200], "first_passing_d": 200, "true_d90": 100.0},
        {**line, "d90": 250, "interval": [200, None], "first_passing_d": 100, "true_d90": 100.0},
        {**line, "d90": None, "interval": [900, None], "first_passing_d": None, "true_d90": None}
        | {"status": "above-maximum"},
    ]
    found = scores(lines)
    assert found["right"] == 1
    assert found["bias"] == pytest.approx(math.log(2.5) / 2)
    assert found["rms"] == pytest.approx(math.log(2.5) / math.sqrt(2))
    assert (found["off by 2"], found["off by 5"]) == (0.5, 0)
    assert found["coverage"] == pytest.approx(2 / 3)
    assert found["first bias"] == pytest.approx(math.log(2) / 2)
    assert (
        table([{**lines[0], "noise": "real", "family": "logistic", "protocol": "list"}]).count("\n")
        == 2
    )


def test_the_command_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "protocols.jsonl"
    command = [
        sys.executable,
        "-m",
        "benchmarks.protocols",
        "--output",
        str(file),
        "--studies",
        "1",
    ]
    command += ["--protocols", "bisect", "--families", "sharp", "--noises", "real"]
    for _ in range(2):
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    (line,) = map(json.loads, file.read_text().splitlines())
    assert line["protocol"] == "bisect"
    assert "| real | sharp | bisect | 1 |" in printed
