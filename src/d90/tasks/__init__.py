"""Data sets and metrics: standard tasks, bundled tasks and local folders."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from d90.errors import D90Error, unknown_name
from d90.tasks.completions import read_template
from d90.tasks.decoding import GSM8K
from d90.tasks.hub import HubTask
from d90.tasks.kinds import KINDS, Kind, find_kind, kind_of, known_metrics
from d90.tasks.limits import limited_rows
from d90.tasks.local import read_bundled, read_folder
from d90.tasks.metrics import METRICS, constant_losses, majority_score, metrics_of, score
from d90.tasks.tables import Tables
from d90.tasks.task import Split, Task
from d90.utils.files import as_path

__all__ = [
    "KINDS",
    "METRICS",
    "TASKS",
    "Kind",
    "Split",
    "Task",
    "constant_losses",
    "kind_of",
    "known_metrics",
    "load_task",
    "majority_score",
    "metrics_of",
    "score",
]

TASKS: dict[str, Callable[[], Tables]] = {
    "mrpc": HubTask("nyu-mll/glue", "mrpc").read,
    "qqp": HubTask("nyu-mll/glue", "qqp").read,
    "sst2": HubTask("nyu-mll/glue", "sst2").read,
    "mnli": HubTask(
        "nyu-mll/glue",
        "mnli",
        evaluation={
            "matched": ("validation_matched",),
            "mismatched": ("validation_mismatched",),
        },
    ).read,
    "anli": HubTask(
        "facebook/anli",
        "plain_text",
        train=("train_r1", "train_r2", "train_r3"),
        evaluation={"validation": ("dev_r1", "dev_r2", "dev_r3")},
    ).read,
    # Yelp polarity has no validation split.
    "yelp": HubTask("fancyzhx/yelp_polarity", "plain_text", evaluation={"test": ("test",)}).read,
    "stsb": HubTask("nyu-mll/glue", "stsb").read,
    # GSM8K has no validation split.
    "gsm8k": HubTask(
        "openai/gsm8k",
        "main",
        evaluation={"test": ("test",)},
        columns={"question": "prompt", "answer": "completion"},
        options={"answer_pattern": GSM8K},
    ).read,
    "wordnet-supersense": partial(read_bundled, "wordnet-supersense"),
    "wordnet-hypernym": partial(read_bundled, "wordnet-hypernym"),
    "wordnet-lemma": partial(read_bundled, "wordnet-lemma"),
}


def load_task(
    name: str | Path,
    *,
    task_kind: str | None = None,
    text_columns: Sequence[str] | None = None,
    label_column: str | None = None,
    metric: str | None = None,
    answer_pattern: str | None = None,
    max_new_tokens: int | None = None,
    chat_template: str | None = None,
    max_train_samples: int | None = None,
    max_eval_samples: int | None = None,
    seed: int = 0,
) -> Task:
    """A task by name, or from a folder with `train` and `validation` files.

    Args:
        name: a key of `TASKS`, otherwise a folder (write `./mrpc` for a folder called `mrpc`).
        task_kind: a key of `KINDS`; found by the columns and labels if None.
        text_columns: one or two columns; found by name if None.
        label_column: `label` if None.
        metric: one of the kind's; its first, such as accuracy, if None.
        answer_pattern: in generation, a regular expression: `exact_match`, then the default, is
            of what its last match selects in the decoded text and in the completion.
        max_new_tokens: the most tokens that are decoded for it; 256 if None.
        chat_template: of conversations, a file or a text; the tokenizer's if None.
        max_train_samples: maximum number of training examples: the first of a seeded shuffle.
        max_eval_samples: the same, for each evaluation split.
        seed: of the shuffle that the limits use; nothing else depends on it.

    Raises:
        D90Error: unknown task, kind, column or metric; a file missing or malformed; labels of no
            kind, missing, out of range or all the same; an empty split; a hub data set that cannot
            be reached; an option that is not of the kind or of the metric.

    >>> task = load_task("wordnet-hypernym", max_eval_samples=500)
    >>> task.text_columns, task.labels, task.metric, len(task.train)
    (('gloss', 'candidate'), ('no', 'yes'), 'accuracy', 8000)
    >>> {split: len(rows) for split, rows in task.evaluation.items()}
    {'validation': 500}
    """
    tables = _read(name)
    for table in tables.all():
        if not len(table):
            raise D90Error(f"{table.where}: empty split: every split needs at least one example.")
    kind, texts, column = find_kind(tables, task_kind, text_columns, label_column)
    names, labels = kind.read(tables, column)

    def split(index: int, limit: int | None, option: str) -> Split:
        table = tables.all()[index]
        rows = limited_rows(len(table), limit, seed, option=option)
        return Split(kind.read_texts(table, texts, rows), tuple(labels[index][row] for row in rows))

    train = split(0, max_train_samples, "max_train_samples")
    if len(set(train.labels)) < 2:
        raise D90Error(
            f"max_train_samples {max_train_samples} keeps only one {kind.label} of "
            f"{tables.train.where}: increase it."
        )
    template = None if chat_template is None else read_template(chat_template)
    given = {
        "answer_pattern": answer_pattern,
        "max_new_tokens": max_new_tokens,
        "chat_template": template,
    }
    texts_given = {name: str(value) for name, value in given.items() if value is not None}
    options = {
        **kind.options(train.labels),
        **kind.given_options(metric, texts_given, tables.options),
    }
    metric = kind.of(names, options).check_metric(metric)
    evaluation = {
        key: split(index, max_eval_samples, "max_eval_samples")
        for index, key in enumerate(tables.evaluation, 1)
    }
    return Task(os.fspath(name), texts, names, metric, train, evaluation, kind.name, options)


def _read(name: str | Path) -> Tables:
    if name in TASKS:
        return TASKS[str(name)]()
    folder = as_path(name, "task")
    is_bare_name = folder.name == str(name)
    if is_bare_name and not folder.is_dir():
        raise unknown_name("task or folder", str(name), TASKS)
    return read_folder(folder)
