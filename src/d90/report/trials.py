"""Every run of a study as a table: `trials.csv`."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable

from d90.search.trial import TrialResult

COLUMNS = ("d", "learning_rate", "seed", "metric", "train_metric", "status", "seconds", "message")


def trials_csv(results: Iterable[TrialResult]) -> str:
    """One row a run, in the given order; `d` is empty for full fine-tuning, a metric if unknown.

    Numbers are written in full: reading them back gives the same floats.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(_row(result) for result in results)
    return out.getvalue()


def _row(result: TrialResult) -> list[object]:
    trial = result.trial
    return [
        trial.d,
        trial.learning_rate,
        trial.seed,
        _number(result.metric),
        _number(result.train_metric),
        result.status,
        _number(result.seconds),
        result.message,
    ]


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
