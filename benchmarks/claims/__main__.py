"""Run the studies of claims, or print their tables: `python -m benchmarks.claims --help`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

from benchmarks import claims
from benchmarks.claims import reference, repetitions
from benchmarks.claims.study import Study, load, run
from d90.search.summary import Summary


class Claim(NamedTuple):
    """What is measured for a claim, and the table that answers it."""

    studies: Callable[[], list[Study]]
    table: Callable[[Mapping[Study, Summary]], str]


CLAIMS: Mapping[str, Claim] = {
    "repetitions": Claim(repetitions.studies, repetitions.table),
    "reference": Claim(reference.studies, reference.table),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 1 if a study did not end well."""
    parser = argparse.ArgumentParser(description=(claims.__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name, help in (("run", "measure what is due"), ("table", "print the answer")):
        command = commands.add_parser(name, help=help)
        command.add_argument("folder", type=Path, help="of the studies' reports and stores")
        command.add_argument("claim", choices=CLAIMS)
        if name == "run":
            command.add_argument("--sources", type=Path, default=Path("../shared"))
            command.add_argument("--only", default="*", help="pattern of the studies' names")
            command.add_argument("--processes", type=int, default=1, help="studies at a time")
    options = parser.parse_args(arguments)
    claim = CLAIMS[options.claim]
    if options.command == "table":
        print(claim.table(load(options.folder, claim.studies())))
        return 0
    studies = [study for study in claim.studies() if fnmatch(study.name, f"*{options.only}*")]
    return 0 if run(options.folder, studies, options.sources, processes=options.processes) else 1


if __name__ == "__main__":
    raise SystemExit(main())
