"""d90 of a causal language model, SmolLM2-135M, on two tasks that it answers in words.

One study each, of one epoch of 1,600 examples, so that it ends within 90 minutes on two cores. The
metric is `exact_match`: the fraction of completions that greedy decoding gives token for token.
`clinc150` has the request as its prompt and the name of its intent, one of 150, as the completion.
"""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.claims.study import Study, answer, pooled
from benchmarks.markdown import markdown_table
from d90.search.summary import Summary

MODEL = "smollm2-135m"

OPTIONS = (
    "--metric=exact_match",
    "--max-train-samples=1600",
    "--max-eval-samples=400",
    "--epochs=1",
    "--batch-size=16",
    "--baseline-learning-rates=1e-4",
)

VERBALIZED = ("--task-kind=generation", "--text-columns=text", "--label-column=label")

TASKS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "wordnet-lemma": ("wordnet-lemma", ()),
    "clinc150": ("data/clinc150", VERBALIZED),
}
"""As `d90 measure` takes them, with the options of each."""


def studies() -> list[Study]:
    """One of each task."""
    return [study(task) for task in TASKS]


def study(task: str) -> Study:
    """Of a task."""
    name, options = TASKS[task]
    return Study(f"generation/{MODEL}-{task}", MODEL, name, (*options, *OPTIONS))


COLUMNS = ("task", "trials", "minutes", "z = 0", "full", "d90", "of the loss")


def table(found: Mapping[Study, Summary]) -> str:
    """A row for each task: scores by the metric, and d90 by it and by the loss, as Markdown."""
    rows: list[tuple[object, ...]] = [COLUMNS]
    for task in TASKS:
        if (summary := found.get(study(task))) is None:
            continue
        minutes = sum(result.seconds for result in summary.trials) / 60
        by_metric = pooled([summary], "accuracy")
        rows.append(
            (
                *(task, len(summary.trials), f"{minutes:.0f}", f"{summary.majority:.3f}"),
                f"{by_metric.full_metric or float('nan'):.3f}",
                *(answer(by_metric), answer(pooled([summary], "nll"))),
            )
        )
    return markdown_table(rows)
