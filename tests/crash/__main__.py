"""Ends commands at the calls with which they write, and compares what the next one ends with.

python -m tests.crash --all
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from tests.crash import shim

QUIET = {
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "CUDA_VISIBLE_DEVICES": "",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", action="store_true", help="every point of every scenario")
    parser.add_argument("--points", type=int, default=8, help="of each scenario, otherwise")
    parser.add_argument("--seed", type=int, default=0, help="which points")
    parser.add_argument("--only", help="one scenario")
    arguments = parser.parse_args()
    if reason := shim.missing():
        print(f"cannot run: {reason}")
        return 2
    with tempfile.TemporaryDirectory() as place:
        if "crash.so" not in os.environ.get("LD_PRELOAD", ""):
            library = str(shim.build(Path(place)))
            command = [sys.executable, "-m", "tests.crash", *sys.argv[1:]]
            environment = {**os.environ, **QUIET, "LD_PRELOAD": library}
            return os.spawnve(os.P_WAIT, sys.executable, command, environment)
        count = None if arguments.all else arguments.points
        return _sweep(Path(place), count, arguments.seed, arguments.only)


def _sweep(place: Path, count: int | None, seed: int, only: str | None) -> int:
    from tests.crash.harness import broken_laws, disturb, drawn, preload, run_in_child, undisturbed
    from tests.crash.scenarios import make_inputs, scenarios

    inputs = place / "inputs"
    assert run_in_child(lambda: make_inputs(inputs), place / "made") == 0
    wrong = tried = 0
    for scenario in scenarios(inputs).values():
        if only not in (None, scenario.name):
            continue
        began = time.monotonic()
        preload(scenario, place)
        expected = undisturbed(scenario, place / "undisturbed")
        found = broken_laws(expected.calls)
        for line in found:
            print(f"  {scenario.name}: {line}", flush=True)
        points = drawn(expected.points(), count, seed)
        for tried_here, point in enumerate(points):
            if tried_here % 50 == 0:
                print(f"  {scenario.name}: {tried_here} of {len(points)}", flush=True)
            what = disturb(scenario, place / "disturbed", point, expected)
            call = expected.calls[point.number - 1]
            where = (
                f"{'in' if point.torn else 'after'} call {point.number} ({call.kind} {call.path})"
            )
            found += what
            for line in what:
                print(f"  {scenario.name}, {where}: {line}", flush=True)
        print(
            f"{scenario.name}: {len(expected.calls)} calls, {len(points)} of "
            f"{len(expected.points())} points, {len(found)} differences, "
            f"{time.monotonic() - began:.0f} s",
            flush=True,
        )
        tried, wrong = tried + len(points), wrong + len(found)
    print(f"{tried} points, {wrong} differences")
    return 1 if wrong or not tried else 0


if __name__ == "__main__":
    sys.exit(main())
