"""Commands that are ended while they write: the same command ends with the same bits.

`python -m tests.crash --all` tries every point; here is a sample, another one each day.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.crash.harness import Call, Point, Undisturbed, broken_laws, differences, drawn
from tests.crash.shim import build, missing

if reason := missing():
    pytest.skip(reason, allow_module_level=True)

SECONDS_A_DAY = 86_400

GOOD = [
    Call("create", ".x.partial", inode=0),
    Call("write", ".x.partial", inode=1),
    Call("sync", ".x.partial", inode=1),
    Call("rename", ".x.partial", "x", inode=1),
    Call("sync", ".", inode=2),
]


@pytest.mark.slow
def test_a_sample_of_points() -> None:
    seed = str(int(time.time() / SECONDS_A_DAY))
    command = [sys.executable, "-m", "tests.crash", "--points", "2", "--seed", seed]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"seed {seed}: {done.stdout}{done.stderr}"
    assert done.stdout.endswith("12 points, 0 differences\n"), done.stdout


BROKEN = """
import sys
from pathlib import Path
from tests.crash.harness import Scenario, broken_laws, disturb, undisturbed
from d90.utils.files import atomic_path, atomic_write

def in_place():
    if not Path("x").exists():
        with open("x", "wb", buffering=0) as file:
            file.write(b"first half, ")
            file.write(b"second half")

def litters():
    if not Path("x").exists():
        Path("temporary").write_text("content")
        Path("temporary").rename("x")

def is_atomic():
    if not Path("x").exists():
        atomic_write(Path("x"), b"content" * 10_000)

def is_a_folder():
    if not Path("x").exists():
        with atomic_path(Path("x")) as partial:
            partial.mkdir()
            (partial.parent / "of a library").write_text("")
            (partial / "inside").write_text("content")

for name in ("in_place", "litters", "is_atomic", "is_a_folder"):
    scenario, place = Scenario(name, globals()[name]), Path(sys.argv[1])
    expected = undisturbed(scenario, place)
    wrong = [disturb(scenario, place, point, expected) for point in expected.points()]
    assert len(wrong) > 3
    print(name, sum(map(bool, wrong)), bool(broken_laws(expected.calls)))
"""


def test_what_is_not_atomic_is_found(tmp_path: Path) -> None:
    environment = {**os.environ, "LD_PRELOAD": str(build(tmp_path))}
    command = [sys.executable, "-c", BROKEN, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.stdout.splitlines() == [
        # After its creation, in and after the first half, in the second half; not at the end.
        "in_place 4 True",
        # The next run writes the temporary file again: only the law is broken.
        "litters 0 True",
        "is_atomic 0 False",
        "is_a_folder 0 False",
    ], done.stderr


def test_calls_that_lose_nothing() -> None:
    assert broken_laws(GOOD) == []


@pytest.mark.parametrize(
    ("calls", "message"),
    [
        ([GOOD[0], GOOD[1], *GOOD[3:]], "x gets its name before .x.partial is on the disk"),
        ([GOOD[0], GOOD[2], GOOD[1], *GOOD[3:]], "x gets its name before .x.partial is on"),
        (GOOD[:-1], "the rename to x is not on the disk"),
        ([*GOOD[:3], GOOD[4], GOOD[3]], "the rename to x is not on the disk"),
        ([*GOOD, Call("write", "x", inode=1)], "x is written under its final name"),
    ],
)
def test_calls_that_may_lose_a_file(calls: list[Call], message: str) -> None:
    (broken,) = broken_laws(calls)
    assert broken.startswith(message)


def test_a_file_in_a_folder_that_is_renamed() -> None:
    written = [Call("write", ".a.partial/.tmp", inode=1)]
    moved = [Call("rename", ".a.partial", ".b.partial"), Call("rename", ".b.partial", "b")]
    synced = [Call("sync", ".a.partial/weights", inode=1)]  # Renamed unseen: the same inode.
    end = [Call("sync", ".")]
    assert broken_laws([*written, *synced, *moved, *end]) == []
    assert broken_laws([*written, *moved, *end]) == [
        "b gets its name before .b.partial/.tmp is on the disk"
    ]


def test_every_call_is_a_point_and_every_write_two() -> None:
    points = Undisturbed(tuple(GOOD[:3]), {}).points()
    assert points == [Point(1), Point(2, torn=True), Point(2), Point(3)]
    assert drawn(points, None, 0) == points
    assert len({*drawn(points, 2, 0)}) == 2


def test_differences() -> None:
    assert differences({"a": 1, "b": 2, "c": 3}, {"b": 2, "c": 4, "d": 5}) == [
        "d is missing",
        "a is left over",
        "c differs",
    ]
