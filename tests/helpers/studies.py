"""Synthetic studies with a known curve, one for each case that a report must handle."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import cache

from d90.search.criteria import MAJORITY_CLASS, PRETRAINED_MODEL
from d90.search.estimate import estimate
from d90.search.history import HistoryPoint
from d90.search.subspace_config import SubspaceConfig
from d90.search.summary import Summary
from d90.search.trial import Trial, TrialResult

MAJORITY, FULL = 0.684, 0.802


def metric_at(d: int, learning_rate: float, seed: int) -> float:
    """A logistic rise in log d from the majority class to full fine-tuning, best at rate 0.01."""
    rise = 1 / (1 + math.exp(-1.6 * (math.log(d) - math.log(60))))
    off = 0.25 * abs(math.log10(learning_rate / 0.01))
    wiggle = 0.006 * math.sin(12.9 * d + 78.2 * seed + 3.7 * math.log(learning_rate))
    return MAJORITY + (FULL - MAJORITY) * rise * (1 - off) + wiggle


def runs(
    dims: Iterable[int],
    rates: Sequence[float] = (0.002, 0.005, 0.01, 0.02),
    seeds: Sequence[int] = (0,),
) -> list[TrialResult]:
    """Full fine-tuning at two rates, then every d; the largest rate collapses from d = 1,000."""
    results = [
        TrialResult(Trial(None, rate), "ok", FULL - 0.01 * i, 0.99, 240.0)
        for i, rate in enumerate((1e-4, 5e-5))
    ]
    for d in dims:
        for rate in rates:
            for seed in seeds:
                metric = metric_at(d, rate, seed)
                if rate >= 0.02 and d >= 1_000:
                    results.append(
                        TrialResult(Trial(d, rate, seed), "collapsed", MAJORITY, 0.67, 91.5)
                    )
                else:
                    train = min(metric + 0.05, 1.0)
                    results.append(TrialResult(Trial(d, rate, seed), "ok", metric, train, 90.25))
    return results


def study(
    results: Iterable[TrialResult],
    *,
    majority: float = MAJORITY,
    method: str = "said",
    D: int | None = 22_713_986,
    reference: str = MAJORITY_CLASS,
    **changes: object,
) -> Summary:
    """The summary of the results, with the d90 of the estimator."""
    results = tuple(results)
    estimated = estimate(results, majority=majority, D=D, reference=reference)
    values: dict[str, object] = {
        "model": "minilm-l6",
        "task": "mrpc",
        "subspace": SubspaceConfig(method),
        "m": 8,
        "D": D,
        "majority": majority,
        "reference": reference,
        "full_metric": estimated.full_metric,
        "threshold": estimated.threshold,
        "d90": estimated.d90,
        "interval": estimated.interval,
        "first_passing_d": estimated.first_passing_d,
        "band": estimated.band,
        "status": estimated.status,
        "reason": estimated.reason,
        "warnings": estimated.warnings,
        "trials": results,
        "settings": {
            "theta_0": "eea3fbb7",
            "subspace": {"method": "said", "groups": "layer"},
            "training": {"epochs": 4, "batch_size": 32, "max_steps": None},
            "protocol": {"name": "list", "dims": [10, 20]},
        },
        "command": "d90 measure minilm-l6 mrpc --method said --dims 10,20",
        "versions": {"d90": "0.1.0", "torch": "2.13.0"},
        "started": "2026-01-02T03:04:05+00:00",
        "finished": "2026-01-02T03:44:05+00:00",
    }
    return Summary(**{**values, **changes})  # type: ignore[arg-type]


def ladder(low: int, high: int, count: int) -> list[int]:
    """Log-spaced dimensions."""
    return sorted({round(low * (high / low) ** (i / (count - 1))) for i in range(count)})


EIGHT = ladder(10, 10_000, 8)


HISTORY = (
    HistoryPoint(None, 1e-4, 0, None, None, None),
    HistoryPoint(1_389, 0.01, 0, None, None, 27),
    HistoryPoint(10, 0.01, 0, 60, 12, None),
    HistoryPoint(72, 0.005, 0, 35, 21, 72),
    HistoryPoint(27, 0.01, 0, 35, 27, 51),
)
"""Narrowing, with open ends."""


@cache
def every_kind() -> dict[str, Summary]:
    """A study for each status, and some that are hard to plot."""
    usable = runs(EIGHT)
    diverged = [
        TrialResult(r.trial, "diverged", math.nan) if r.trial.d else r
        for r in runs(EIGHT, (0.01, 0.5))
    ]
    return {
        "ok": study(usable),
        "seeds": study(runs(EIGHT, seeds=(0, 1, 2))),
        "grid": study(runs(ladder(10, 10_000, 100))),
        "above-maximum": study(runs(ladder(10, 30, 4), (0.001, 0.002))),
        "optimization-limited": study(runs(ladder(10, 30, 4), (0.001, 0.002)), D=40),
        "at-minimum": study(runs([500, 1_000], (0.01,))),
        "trivial-threshold": study(usable, majority=0.73),
        "already-satisfied": study(usable, majority=0.73, reference=PRETRAINED_MODEL),
        "undefined-baseline": study(runs([]), majority=0.85),
        "unstable": study(diverged, majority=0.6),
        "one-point": study(runs([200], (0.01,)), majority=0.6),
        "wide": study(runs([100, 2_000, 45_000, 900_000, 4_000_000], (0.01, 0.02))),
        "nothing": study([]),
        "adaptive": study(runs([10, 27, 72, 193], (0.01,)), history=HISTORY),
        "own": own(usable, D=4_810),
        "own-without-D": own(usable),
    }


OWN = "digits-mlp"


def own(results: Iterable[TrialResult], D: int | None = None) -> Summary:
    """The summary of a user's own training, which has no model, task or subspace."""
    return study(
        results,
        D=D,
        model="",
        task="",
        subspace=None,
        m=None,
        objective=OWN,
        metric="score",
        reference="floor",
        settings={"objective": OWN, "settings": {"steps": 5}, "protocol": {"dims": [10, 20]}},
        command="",
    )
