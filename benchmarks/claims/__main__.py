"""Run the studies of claims, or print their tables: `python -m benchmarks.claims --help`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

from benchmarks import claims
from benchmarks.claims import checkpoints, generation, lowering, nested, reference, repetitions
from benchmarks.claims.pretraining import MODELS
from benchmarks.claims.study import Command, Study, load, run
from d90.search.summary import Summary


class Claim(NamedTuple):
    """What is run for a claim, and what answers it, both from the folder of the results."""

    commands: Callable[[Path], Sequence[Command]]
    table: Callable[[Path], str]


def of_studies(
    studies: Callable[[], Sequence[Study]], table: Callable[[Mapping[Study, Summary]], str]
) -> Claim:
    """A claim whose table is of summaries."""
    return Claim(lambda folder: studies(), lambda folder: table(load(folder, studies())))


CLAIMS: Mapping[str, Claim] = {
    "repetitions": of_studies(repetitions.studies, repetitions.table),
    "reference": of_studies(reference.studies, reference.table),
    "lowering": of_studies(lowering.studies, lowering.table),
    "trajectory": Claim(checkpoints.trajectory_studies, checkpoints.trajectory_table),
    "sizes": Claim(checkpoints.sizes_studies, checkpoints.sizes_table),
    "generation": of_studies(generation.studies, generation.table),
    "nested": Claim(lambda folder: nested.commands(), nested.table),
}

PRETRAINING = "pretraining"
"""Of the models of the claims, which is no claim of its own."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 1 if a command did not end well."""
    parser = argparse.ArgumentParser(description=(claims.__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    table = commands.add_parser("table", help="print the answer")
    run_command = commands.add_parser("run", help="run what has no result yet")
    for command, names in ((table, CLAIMS), (run_command, (PRETRAINING, *CLAIMS))):
        command.add_argument("folder", type=Path, help="of the results")
        command.add_argument("claim", choices=names)
    run_command.add_argument("--sources", type=Path, default=Path("../shared"))
    run_command.add_argument("--only", default="*", help="pattern of the names")
    run_command.add_argument("--processes", type=int, default=1, help="commands at a time")
    options = parser.parse_args(arguments)
    if options.command == "table":
        print(CLAIMS[options.claim].table(options.folder))
        return 0
    chosen = [
        c
        for c in commands_of(options.claim, options.folder)
        if fnmatch(c.name, f"*{options.only}*")
    ]
    return 0 if run(options.folder, chosen, options.sources, processes=options.processes) else 1


def commands_of(claim: str, folder: Path) -> Sequence[Command]:
    """What `run` runs for a claim.

    Raises:
        D90Error: it needs models that are not pre-trained yet.
    """
    return [*MODELS.values()] if claim == PRETRAINING else CLAIMS[claim].commands(folder)


if __name__ == "__main__":
    raise SystemExit(main())
