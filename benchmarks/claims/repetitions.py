"""One study with other seeds, against a dense reference, and the same study in other ways.

The settings are those of the first section of docs/results: 6,000 training examples, 2 epochs,
onehot. No study shares a seed with another, so that their answers are independent but for the head
and the examples. The crossing of the reference's mean metrics needs no model of the curve.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

import numpy as np

from benchmarks.claims.study import SEEDS_APART, Study
from benchmarks.claims.tasks import MODELS, TASKS
from benchmarks.markdown import markdown_table
from d90.report import wording
from d90.search.ladder import log_spaced
from d90.search.summary import Summary

REPETITIONS = 5

TRAINING = (
    "--projection=onehot",
    "--max-train-samples=6000",
    "--epochs=2",
    "--batch-size=32",
    "--precision=no",
    "--baseline-learning-rates=1e-4,3e-4",
)

REFERENCE, TWO = "reference", "two-workers"

REFERENCE_DIMS = log_spaced(30, 30_000, 12)
REFERENCE_SEEDS = range(1000, 1005)
REFERENCE_RATE = 0.008
"""Within 0.006 of the best of five rates at d = 100, 1,000 and 10,000 (docs/results)."""

RESAMPLES = 2000


def studies() -> list[Study]:
    """The repetitions, the reference, and a study by another criterion and one of two workers."""
    adaptive = {f"repetition-{k}": () for k in range(REPETITIONS)}
    reference = (
        f"--dims={','.join(map(str, REFERENCE_DIMS))}",
        f"--learning-rates={REFERENCE_RATE}",
        f"--seeds={','.join(map(str, REFERENCE_SEEDS))}",
    )
    others = {"brier": ("--criterion=brier",), TWO: ("--executor=processes", "--workers=2")}
    options = {**adaptive, **others}
    seeds = {name: (f"--seeds={k * SEEDS_APART}",) for k, name in enumerate(options)}
    found = {name: (*options[name], *seeds[name]) for name in options} | {REFERENCE: reference}
    return [_study(name, options) for name, options in found.items()]


def _study(name: str, options: tuple[str, ...]) -> Study:
    model, task = MODELS["bert-tiny"].model, TASKS["sst2"].task
    return Study(f"repetitions/{name}", model, task, (*TRAINING, *options))


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


COLUMNS = (
    *("study", "trials", "of these full", "minutes", "full"),
    *("d90", "95% interval", "first that passes"),
)


def table(found: Mapping[Study, Summary]) -> str:
    """The answers of the studies that have ended, and how they agree, as Markdown."""
    summaries = {study.name.rpartition("/")[2]: summary for study, summary in found.items()}
    reference = summaries.get(REFERENCE)
    repetitions = [s for name, s in summaries.items() if name.startswith("repetition-")]
    rows: list[tuple[object, ...]] = [COLUMNS]
    for name, s in summaries.items():
        minutes = sum(r.seconds for r in s.trials) / 60
        full = sum(r.trial.is_full for r in s.trials)
        cells = (name, len(s.trials), full, f"{minutes:.0f}", f"{s.full_metric or math.nan:.3f}")
        rows.append((*cells, s.d90 or s.status, wording.interval(s), s.first_passing_d))
    lines = [markdown_table(rows), ""]
    pairs = [(a, b) for a in repetitions for b in repetitions if a is not b and b.d90 is not None]
    inside = sum(_has(a, b.d90) for a, b in pairs)
    lines.append(f"Medians inside another repetition's interval: {inside} of {len(pairs)}.")
    metrics = [s.full_metric for s in repetitions if s.full_metric is not None]
    if reference is not None and metrics:
        ends = np.exp(np.quantile(resampled_crossings(reference, metrics), (0.025, 0.5, 0.975)))
        lines.append(
            f"Crossing of the reference's means with 0.9 of {fmean(metrics):.3f}: {ends[1]:,.0f} "
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
