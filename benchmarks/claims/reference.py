"""Claim 1: d90 of small models on several tasks, by DID and by SAID, with three seeds.

The settings are d90's defaults (fastfood, scale tensor, the adaptive protocol from d = 10 to
100,000), but for what `tasks` says. No two repetitions share a seed; DID and SAID of one repetition
have the same first seed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from benchmarks.claims.study import REPETITIONS, SEEDS_APART, Study, answer, pooled
from benchmarks.claims.tasks import MODELS, TASKS
from benchmarks.markdown import markdown_table
from d90.report import wording
from d90.search.estimate import Estimate
from d90.search.posterior import Draws
from d90.search.summary import Summary

METHODS = ("did", "said")
RESAMPLES = 10_000


@dataclass(frozen=True)
class Row:
    """A row of the table: a model on a task by one method."""

    model: str
    task: str
    method: str


def rows() -> list[Row]:
    """The rows, in their order."""
    return [Row(*names) for names in itertools.product(MODELS, TASKS, METHODS)]


def studies() -> list[Study]:
    """All studies, a first repetition of every row before any second."""
    return [study(row, k) for k in range(REPETITIONS) for row in rows()]


def study(row: Row, repetition: int) -> Study:
    """One repetition of a row."""
    model, task = MODELS[row.model], TASKS[row.task]
    options = (*task.options, *model.options, f"--seeds={repetition * SEEDS_APART}")
    name = f"reference/{row.model}-{row.task}-{row.method}-{repetition}"
    return Study(name, model.model, task.task, (f"--method={row.method}", *options))


COLUMNS = ("model", "task", "method", "seeds", "trials", "majority", "full", "d90", "each", "nll")


def table(found: Mapping[Study, Summary]) -> str:
    """A row for each model, task and method, then SAID against DID, as Markdown.

    d90 is that of all trials together, beside that of each repetition; `nll` is d90[nll] by the
    same trials, which were chosen for the metric.
    """
    cells: list[tuple[object, ...]] = [COLUMNS]
    answers: dict[Row, Estimate] = {}
    for row in rows():
        summaries = [found[s] for k in range(REPETITIONS) if (s := study(row, k)) in found]
        if not summaries:
            continue
        answers[row] = by_metric = pooled(summaries, "accuracy")
        cells.append(
            (
                *(row.model, row.task, row.method, len(summaries)),
                *(sum(len(s.trials) for s in summaries), f"{summaries[0].majority:.3f}"),
                f"{by_metric.full_metric or math.nan:.3f}",
                answer(by_metric),
                ", ".join(wording.cell(summary) for summary in summaries),
                answer(pooled(summaries, "nll")),
            )
        )
    return f"{markdown_table(cells)}\n\n{said_against_did(answers)}"


def said_against_did(answers: Mapping[Row, Estimate]) -> str:
    """The mean of ln(d90 by SAID / d90 by DID) over the rows where both have a d90."""
    ratios = [
        math.log(answers[said].d90 / answer.d90)  # pyright: ignore
        for row, answer in answers.items()
        if row.method == "did"
        and (said := Row(row.model, row.task, "said")) in answers
        and answer.d90 is not None
        and answers[said].d90 is not None
    ]
    if len(ratios) < 2:
        return f"SAID against DID: {len(ratios)} rows have both."
    drawn = np.array(ratios)[(Draws(0).uniform(RESAMPLES, len(ratios)) * len(ratios)).astype(int)]
    low, high = np.exp(np.quantile(drawn.mean(axis=1), (0.025, 0.975)))
    below = sum(ratio < 0 for ratio in ratios)
    return (
        f"d90 by SAID is {math.exp(fmean(ratios)):.2f} times that by DID (geometric mean of "
        f"{len(ratios)} rows, 95% interval {low:.2f} to {high:.2f} with rows drawn again); "
        f"it is lower in {below} of them."
    )
