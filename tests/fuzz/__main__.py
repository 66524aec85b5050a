"""Feed mutated files to every reader of files from outside, and report what became of them.

    python -m tests.fuzz --runs 100000 --seed 1 --processes 2
    python -m tests.fuzz --reader summary --reader config --runs 20000
    python -m tests.fuzz --reader summary --replay build/fuzz/summary-0-17/ok.json

Inputs are a function of the seed alone. Findings are written to a folder, each with the command
that reads it again. Exit code 1 if there is one.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.fuzz import harness
from tests.fuzz.harness import Tally
from tests.fuzz.readers import READERS, shares
from tests.fuzz.workers import fuzz


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz or replay; say by the exit code whether all is well."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz the readers.")
    parser.add_argument("--runs", type=int, default=1_000_000, help="inputs, over all readers")
    parser.add_argument("--seed", type=int, default=0, help="of the inputs")
    parser.add_argument("--reader", action="append", choices=[*READERS], help="default: all")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--findings", type=Path, default=Path("build/fuzz"), help="folder for them")
    parser.add_argument("--replay", type=Path, help="a file to read with the one reader given")
    known = parser.parse_args(arguments)
    readers = known.reader or [*READERS]
    if known.replay is not None:
        tallies = {readers[0]: harness.replay(readers[0], known.replay)}
    else:
        began = time.monotonic()
        tallies = fuzz(shares(known.runs, readers), known.seed, known.processes)
        print(f"{time.monotonic() - began:.0f} s, seed {known.seed}")
    print(table(tallies))
    for reader, tally in tallies.items():
        for finding in tally.findings[:20]:
            print(f"{reader} {finding[0]}: {finding[1]}: {finding[2]}")
            if known.replay is None:
                print(f"    {harness.save(known.findings, reader, known.seed, finding)}")
    return 1 if any(tally.findings for tally in tallies.values()) else 0


def table(tallies: dict[str, Tally]) -> str:
    """A line for each reader, and one for all."""
    total = Tally()
    for tally in tallies.values():
        total.add(tally)
    head = f"{'reader':<14}{'inputs':>10}{'accepted':>10}{'refused':>10}{'findings':>10}"
    lines = [f"{head}{'slowest s':>11}{'growth MB':>11}"]
    for name, tally in {**tallies, "all": total}.items():
        counts = (tally.inputs, tally.accepted, tally.refused, len(tally.findings))
        cells = "".join(f"{count:>10,}" for count in counts)
        lines.append(f"{name:<14}{cells}{tally.slowest:>11.2f}{tally.growth:>11.1f}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
