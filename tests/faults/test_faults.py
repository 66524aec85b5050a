"""A handful of the faults that `make faults` makes by the dozen; what the harness catches."""

from __future__ import annotations

import dataclasses
import random
import sys
from pathlib import Path

import pytest
from tests.faults.harness import Alone, Disturbed, disturb, missing
from tests.faults.kinds import GROUNDS, KINDS, Surroundings
from tests.faults.study import Command, Study, Violation, check_complaints

from d90.search.trial import Trial, TrialResult
from d90.storage.store import Store

SEED = 811
HANDFUL = {"server restarted", "driver killed", "connections dropped", "out of memory"}
"""What it draws on a server: one command is killed, and the next one ends."""

TRIAL = Trial(10, 0.01)


@pytest.mark.slow
def test_a_handful(tmp_path: Path) -> None:
    ground = "server" if missing("server") is None else "file"
    said: list[str] = []
    count, violations = disturb(
        tmp_path, faults=4, seed=SEED, grounds=[ground], is_small=True, say=said.append
    )
    assert violations == [], said
    assert count.total() == 4, said
    if ground == "server":
        assert {*count} == HANDFUL


def test_every_fault_has_its_ground() -> None:
    assert {kind for ground in GROUNDS.values() for kind in ground["kinds"]} == {*KINDS}


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """One with a finished run."""
    study = Study((), tmp_path, str(tmp_path / "d90.db"))
    finish(study, 0.5)
    return study


def finish(study: Study, metric: float, seed: int = 0) -> None:
    trial = dataclasses.replace(TRIAL, seed=seed)
    with Store(study.store).study({"metric": metric}, "x") as opened:
        opened.finish(opened.start(trial, "key"), TrialResult(trial, "ok", metric=metric))


def test_a_run_that_is_finished_twice_is_seen(study: Study) -> None:
    assert len(study.results()) == 1
    finish(study, 0.6)
    with pytest.raises(Violation, match="finished twice"):
        study.results()
    assert study.keys() == {"key": 2}


def test_a_run_that_is_lost_or_changed_is_seen(study: Study) -> None:
    alone = Alone({"trials": [{}]}, 1.0)
    disturbed = Disturbed(study, Surroundings(), [], random.Random(0), alone, print, 1)
    disturbed._look()
    disturbed._known[TRIAL] = {**disturbed._known[TRIAL], "metric": 0.4}
    with pytest.raises(Violation, match="has changed"):
        disturbed._look()
    disturbed._known = {Trial(20, 0.01): {}}
    with pytest.raises(Violation, match="finished and is lost"):
        disturbed._look()


@pytest.mark.parametrize(
    ("complaint", "wanted", "message"),
    [
        ("error: no space", "No space left", "nothing on standard error says 'No space left'"),
        ("Traceback (most recent call last):", None, "unexpected on standard error: Traceback"),
        ("error: No space left", "No space left", None),
        ("resource_tracker: leaked", None, None),
    ],
)
def test_what_a_command_complains_of(
    complaint: str, wanted: str | None, message: str | None
) -> None:
    command = Command([sys.executable, "-c", f"import sys; sys.exit({complaint!r})"])
    assert command.end() == 1
    if message is None:
        check_complaints(command, wanted=wanted, allowed=("resource_tracker",))
        return
    with pytest.raises(Violation, match=message):
        check_complaints(command, wanted=wanted, allowed=("resource_tracker",))
