"""Repetitions of an adaptive study with other seeds, against a dense reference.

    python -m benchmarks.repetitions run FOLDER --model bert-tiny --task data/sst2
    python -m benchmarks.repetitions table FOLDER

`run` gives one command of `d90 measure` after another, each with a store of its own so that none
takes over results of another, and can be interrupted. The settings are those of `docs/results`'
first section: 6,000 training examples, 2 epochs, onehot. No repetition shares a seed with another
or with the reference, so that their answers are independent but for the head and the examples.
`table` reads d90 and its interval of each, and the crossing of the reference's mean metrics, which
needs no model of the curve.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

import numpy as np

from d90.report import wording
from d90.search.ladder import log_spaced
from d90.search.summary import FILE_NAME, Summary

REPETITIONS = 5

SEEDS_APART = 100
"""Distance of the repetitions' first seeds: more than any of them takes."""

TRAINING = (
    "--projection=onehot",
    "--max-train-samples=6000",
    "--epochs=2",
    "--batch-size=32",
    "--precision=no",
    "--baseline-learning-rates=1e-4,3e-4",
)

REFERENCE_DIMS = log_spaced(30, 30_000, 12)
REFERENCE_SEEDS = range(1000, 1005)
REFERENCE_RATE = 0.008
"""Within 0.006 of the best of five rates at d = 100, 1,000 and 10,000 (docs/results)."""

RESAMPLES = 2000


def studies() -> dict[str, list[str]]:
    """The options of each study by its name, the reference last."""
    found = {
        f"repetition-{k}": ["--protocol=adaptive", f"--seeds={k * SEEDS_APART}"]
        for k in range(REPETITIONS)
    }
    found["reference"] = [
        f"--dims={','.join(map(str, REFERENCE_DIMS))}",
        f"--learning-rates={REFERENCE_RATE}",
        f"--seeds={','.join(map(str, REFERENCE_SEEDS))}",
    ]
    return found


def run(folder: Path, model: str, task: str, names: Sequence[str]) -> None:
    """Measure what is not measured yet."""
    for name in names:
        command = [sys.executable, "-m", "d90", "measure", model, task, *TRAINING]
        command += [*studies()[name], f"--store={folder / name}.db", f"--output={folder / name}"]
        subprocess.run(command, check=True)


def crossing(points: Mapping[int, float], threshold: float) -> float:
    """ln d where means that are made monotone cross the threshold, linear in ln d between them.

    Args:
        points: mean metric at each d.
        threshold: of d90.

    Returns:
        Minus infinity where the smallest d reaches it, infinity where none does.
    """
    x = np.log(sorted(points))
    y = np.maximum.accumulate([points[d] for d in sorted(points)])
    above = np.flatnonzero(y >= threshold)
    if not len(above):
        return math.inf
    if above[0] == 0:
        return -math.inf
    return float(np.interp(threshold, y[above[0] - 1 : above[0] + 1], x[above[0] - 1 :][:2]))


def resampled_crossings(
    reference: Summary, full: Sequence[float], *, resamples: int = RESAMPLES
) -> np.ndarray:
    """Crossings of the reference with its seeds, and those of the baseline, drawn again.

    A seed is drawn for all d at once: its luck is much the same at each of them.

    Args:
        reference: the dense study.
        full: a full fine-tuning metric for each of several seeds.
        resamples: how many.
    """
    rng = np.random.default_rng(0)
    points = reference.curve
    seeds = sorted({seed for point in points for seed in point.by_seed})
    found = []
    for _ in range(resamples):
        threshold = reference.target_fraction * float(rng.choice(full, len(full)).mean())
        drawn = rng.choice(seeds, len(seeds)).tolist()
        metrics = {p.d: [p.by_seed[seed] for seed in drawn if seed in p.by_seed] for p in points}
        found.append(crossing({d: fmean(m) for d, m in metrics.items() if m}, threshold))
    return np.array(found)


def table(folder: Path) -> str:
    """The answers of the studies that have ended, and how they agree, as Markdown."""
    files = {name: folder / name / FILE_NAME for name in studies()}
    summaries = {name: Summary.load(file) for name, file in files.items() if file.exists()}
    reference = summaries.get("reference")
    repetitions = [s for s in summaries.values() if s is not reference]
    full = [s.full_metric for s in repetitions if s.full_metric is not None]
    lines = ["| study | runs | minutes | full | d90 | 95% interval | first that passes |"]
    lines.append("|---" * 7 + "|")
    for name, s in summaries.items():
        minutes = sum(r.seconds for r in s.trials) / 60
        cells = (name, len(s.trials), f"{minutes:.0f}", f"{s.full_metric or math.nan:.3f}")
        answers = (s.d90 or s.status, wording.interval(s), s.first_passing_d)
        lines.append("| " + " | ".join(map(str, (*cells, *answers))) + " |")
    lines.append("")
    pairs = [(a, b) for a in repetitions for b in repetitions if a is not b and b.d90 is not None]
    inside = sum(_has(a, b.d90) for a, b in pairs)
    lines.append(f"Medians inside another repetition's interval: {inside} of {len(pairs)}.")
    if reference is not None and full:
        ends = np.exp(np.quantile(resampled_crossings(reference, full), (0.025, 0.5, 0.975)))
        lines.append(
            f"Crossing of the reference's means with 0.9 of {fmean(full):.3f}: {ends[1]:,.0f} "
            f"({ends[0]:,.0f} to {ends[2]:,.0f}, seeds drawn again)."
        )
        inside = sum(_has(s, float(ends[1])) for s in repetitions)
        lines.append(f"Intervals that have that crossing: {inside} of {len(repetitions)}.")
    return "\n".join(lines)


def _has(summary: Summary, d: float | None) -> bool:
    if summary.interval is None or d is None:
        return False
    low, high = summary.interval
    return (low or 0) <= d <= (math.inf if high is None else high)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the studies, or print their table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("run", "table"):
        command = commands.add_parser(name)
        command.add_argument("folder", type=Path)
        if name == "run":
            command.add_argument("--model", default="bert-tiny")
            command.add_argument("--task", default="sst2")
            command.add_argument("--only", choices=studies(), nargs="+", default=[*studies()])
    options = parser.parse_args(arguments)
    if options.command == "run":
        run(options.folder, options.model, options.task, options.only)
    else:
        print(table(options.folder))


if __name__ == "__main__":
    main()
