"""Disturb studies at random moments and compare them with one that was left alone.

    python -m tests.faults --faults 50 --seed 0
    python -m tests.faults --faults 8 --ground "server, processes"

A line a fault, a table at the end; exit code 1 where a fault did what none may.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.faults.harness import disturb, kinds_on, missing
from tests.faults.kinds import GROUNDS, KINDS
from tests.helpers import disks


def main(arguments: Sequence[str] | None = None) -> int:
    """Disturb, print, and say by the exit code whether all is well."""
    parser = argparse.ArgumentParser(description="Disturb studies, and compare.")
    parser.add_argument("--faults", type=int, default=60, help="at least so many")
    parser.add_argument("--seed", type=int, default=0, help="of moments and kinds")
    parser.add_argument("--ground", action="append", choices=[*GROUNDS], help="default: all")
    parser.add_argument("--small", action="store_true", help="studies of ten runs")
    known = parser.parse_args(arguments)
    grounds = [ground for ground in known.ground or GROUNDS if not _left_out(ground)]
    if not grounds:
        sys.exit("nothing that a study can stand on")
    # A shell starts what runs in the background deaf to Ctrl-C, and so would be every command.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="d90 faults ") as folder:
        count, violations = disturb(
            Path(folder),
            faults=known.faults,
            seed=known.seed,
            grounds=grounds,
            is_small=known.small,
            say=lambda line: print(line, flush=True),
        )
    print(f"\n{'fault':<20} {'times':>5}")
    for kind in KINDS:
        possible = any(kind in kinds_on(ground) for ground in grounds)
        print(f"{kind:<20} {count[kind]:>5}{'' if possible else '  not possible here'}")
    minutes = (time.monotonic() - started) / 60
    print(f"{count.total()} faults in {minutes:.0f} min, {len(violations)} violations")
    return 1 if violations else 0


def _left_out(ground: str) -> bool:
    why = missing(ground)
    if why is not None:
        print(f"{ground}: left out: {why}")
    elif "disk full" in GROUNDS[ground]["kinds"] and disks.missing():
        print(f"{ground}: without a full disk: {disks.missing()}")
    return why is not None


if __name__ == "__main__":
    sys.exit(main())
