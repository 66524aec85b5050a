"""What each protocol costs and how far its d90 is off, on simulated worlds (`benchmarks.worlds`).

Writes one JSON line a study, so that a run that was interrupted goes on, then prints a table.

    python -m benchmarks.protocols --output protocols.jsonl
    python -m benchmarks.protocols --output few.jsonl --studies 20 --protocols adaptive,list
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.markdown import markdown_table
from benchmarks.worlds import FAMILIES, NOISES, OUTSIDE, World, make_world
from d90.search.estimate import estimate
from d90.search.ladder import log_spaced
from d90.search.protocols import (
    AdaptiveProtocol,
    BisectProtocol,
    GridProtocol,
    ListProtocol,
    Protocol,
)
from d90.search.trial import TrialResult

PROTOCOLS: Mapping[str, Protocol] = {
    "adaptive": AdaptiveProtocol(),
    "adaptive, 40 runs": AdaptiveProtocol(budget=40),
    "adaptive, 4 at once": AdaptiveProtocol(budget=40, batch=4),
    "list": ListProtocol(
        dims=log_spaced(10, 100_000, 8), learning_rates=(0.004, 0.008), seeds=(0, 1)
    ),
    "grid": GridProtocol(),
    "bisect": BisectProtocol(),
    "bisect, 3 seeds": BisectProtocol(min_dim=10, max_dim=30_000, seeds=(0, 1, 2)),
}


def run(protocol: Protocol, world: World) -> tuple[Protocol, list[TrialResult]]:
    """The protocol, set for the world, and the results that it asked for."""
    protocol = protocol.for_task(majority=world.majority, evaluation_size=world.evaluation_size)
    results: list[TrialResult] = []
    while trials := protocol.next_trials(results):
        results += map(world.run, trials)
    return protocol, results


def study(name: str, family: str, noise: str, number: int) -> dict[str, Any]:
    """One study, as a JSON line."""
    world = make_world(family, number, noise)
    protocol, results = run(PROTOCOLS[name], world)
    dims = protocol.dimensions()
    found = estimate(
        results, majority=world.majority, evaluation_size=world.evaluation_size, dims=dims
    )
    truth = world.log_d90
    return {
        "protocol": name,
        "family": family,
        "noise": noise,
        "number": number,
        "runs": len(results),
        "status": found.status,
        "d90": found.d90,
        "interval": found.interval,
        "first_passing_d": found.first_passing_d,
        "true_d90": math.exp(truth) if math.isfinite(truth) else None,
        "range": [dims[0], dims[-1]],
    }


def scores(lines: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """What a row of the table has; errors are of ln d90 where the truth is in the range tried."""
    errors, firsts, covered, right, widths = [], [], [], [], []
    for line in lines:
        low, high = line["range"]
        truth = math.inf if line["true_d90"] is None else line["true_d90"]
        status = "at-minimum" if truth < low else "above-maximum" if truth > high else "ok"
        right.append(line["status"] == status)
        ends = line["interval"] or (None, None)
        ends = (ends[0] or 0.0, math.inf if ends[1] is None else ends[1])
        covered.append(ends[0] <= truth <= ends[1])
        widths.append(ends[1] / max(ends[0], 1.0))
        if status == "ok" and line["d90"] is not None:
            errors.append(math.log(line["d90"] / truth))
        if status == "ok" and line["first_passing_d"] is not None:
            firsts.append(math.log(line["first_passing_d"] / truth))
    e, first = np.array(errors or [math.nan]), np.array(firsts or [math.nan])
    return {
        "runs": float(np.mean([line["runs"] for line in lines])),
        "right": float(np.mean(right)),
        "bias": float(e.mean()),
        "rms": float(np.sqrt((e**2).mean())),
        "off by 2": float(np.mean(np.abs(e) > math.log(2))),
        "off by 5": float(np.mean(np.abs(e) > math.log(5))),
        "coverage": float(np.mean(covered)),
        "ratio": float(np.median(widths)),
        "first bias": float(first.mean()),
        "first rms": float(np.sqrt((first**2).mean())),
    }


def table(lines: Iterable[Mapping[str, Any]]) -> str:
    """Markdown: one row for each protocol, family and noise."""
    rows: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for line in lines:
        rows.setdefault((line["noise"], line["family"], line["protocol"]), []).append(line)
    columns = list(scores(next(iter(rows.values())))) if rows else []
    text = [["noise", "family", "protocol", "studies", *columns]]
    for key, found in rows.items():
        values = [f"{value:.2f}" for value in scores(found).values()]
        text.append([*key, str(len(found)), *values])
    return markdown_table(text)


def main() -> None:
    """Run the studies that the output lacks, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--output", type=Path, required=True, help="JSON lines, appended to")
    parser.add_argument("--studies", type=int, default=200, help="of each row (200)")
    parser.add_argument("--protocols", default=";".join(PROTOCOLS), help="names, split by ;")
    parser.add_argument("--families", default=",".join((*FAMILIES, *OUTSIDE)))
    parser.add_argument("--noises", default=",".join(NOISES))
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    lines = _read(options.output)
    done = {(line["protocol"], line["family"], line["noise"], line["number"]) for line in lines}
    due = [
        key
        for number in range(options.studies)
        for name in options.protocols.split(";")
        for family in options.families.split(",")
        for noise in options.noises.split(",")
        if (key := (name, family, noise, number)) not in done
    ]
    with (
        options.output.open("a", encoding="utf-8") as file,
        ProcessPoolExecutor(options.processes) as pool,
    ):
        for count, line in enumerate(pool.map(partial(_star, study), due), 1):
            print(json.dumps(line), file=file, flush=True)
            lines.append(line)
            if count % 50 == 0:
                print(f"{count:,} of {len(due):,} studies", flush=True)
    print(table(lines))


def _star(function: Any, arguments: tuple[Any, ...]) -> Any:
    return function(*arguments)


def _read(file: Path) -> list[dict[str, Any]]:
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    main()
