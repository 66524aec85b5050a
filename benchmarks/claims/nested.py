"""Claim 6: the whole curve from one run, whose z grows by a prefix at a time.

    python -m benchmarks.claims.nested MODEL TASK --output curve.json

With fastfood, where d is at most the length of a block, the first coordinates of z span nested
subspaces. The run has a stage for each d of a ladder, in which the first d coordinates are trained
from where the stage before left them, with the learning rate of that d, and is evaluated at the end
of each. A stage has a third of the epochs of a trial of the protocol, so that the twelve together
cost four trials.

Against d90 by the protocol (`reference`), which trains every d from zero.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.claims import reference
from benchmarks.claims.reference import Row
from benchmarks.claims.repetitions import crossing
from benchmarks.claims.study import REPETITIONS, answer, load, pooled
from benchmarks.claims.tasks import MAX_EVAL_SAMPLES, MODELS, TASKS
from benchmarks.markdown import markdown_table
from d90.experiments.problem import Problem, load_problem
from d90.search.ladder import log_spaced
from d90.subspace import attach
from d90.training import TrainConfig, train
from d90.utils.files import atomic_write

DIMS = log_spaced(10, 32_768, 12)
LEARNING_RATE = 0.008
SEED = 900
"""A seed that no study of `reference` has."""

PART = 1 / 3
"""Length of a stage in trials."""

PAIRS = (
    ("bert-tiny", "sst2"),
    ("bert-tiny", "wordnet-supersense"),
    ("bert-tiny", "emotion"),
    ("bert-tiny", "clinc150"),
    ("bert-tiny", "yelp"),
    ("minilm-l6", "sst2"),
)
"""Six, of those that `reference` measures."""

AGREES = 1.5
"""Ratio of the two d90 up to which they agree."""


@dataclass(frozen=True)
class Nested:
    """The run of a model on a task."""

    model: str
    task: str

    @property
    def name(self) -> str:
        """Of its log."""
        return f"nested/{self.model}-{self.task}"

    @property
    def arguments(self) -> list[str]:
        """What follows `python -m`."""
        return ["benchmarks.claims.nested", self.model, self.task, f"--output={self.result}"]

    @property
    def result(self) -> str:
        """Its curve."""
        return f"{self.name}.json"


def commands() -> list[Nested]:
    """All runs."""
    return [Nested(*pair) for pair in PAIRS]


def table(folder: Path) -> str:
    """A row for each pair: d90 by the protocol and by the nested run, as Markdown."""
    rows = [["model", "task", "d90 by DID", "nested", "ratio"]]
    ratios = []
    for nested in commands():
        row = Row(nested.model, nested.task, "did")
        studies = [reference.study(row, k) for k in range(REPETITIONS)]
        summaries = [*load(folder, studies).values()]
        if not summaries or not (folder / nested.result).exists():
            continue
        found = pooled(summaries, "accuracy")
        points = {int(d): metric for d, metric in read(folder / nested.result).items()}
        other = math.inf if found.threshold is None else crossing(points, found.threshold)
        ratio = math.nan if found.d90 is None else math.exp(other) / found.d90
        ratios.append(ratio)
        rows.append([row.model, row.task, answer(found), in_words(other), f"{ratio:.2f}"])
    near = sum(1 / AGREES <= ratio <= AGREES for ratio in ratios)
    return f"{markdown_table(rows)}\n\nWithin a factor of {AGREES}: {near} of {len(PAIRS)}."


def in_words(log_d: float) -> str:
    """The crossing."""
    if math.isinf(log_d):
        return f"above {DIMS[-1]:,}" if log_d > 0 else f"at most {DIMS[0]}"
    return f"{math.exp(log_d):,.0f}"


def read(file: Path) -> Mapping[str, float]:
    """The metric at each d."""
    return json.loads(file.read_text(encoding="utf-8"))


def nested_curve(
    problem: Problem, config: TrainConfig, *, dims: Sequence[int], learning_rate: float, seed: int
) -> dict[int, float]:
    """The metric after each stage; the problem's model is trained in place.

    Args:
        problem: with an unchanged model.
        config: of one stage.
        dims: ascending; the largest is that of the subspace.
        learning_rate: as of a trial.
        seed: of P; stage k has the data order of `seed + k`.
    """
    model, data = problem.runner.model, problem.runner.data
    z = attach(model, d=dims[-1], seed=seed).z
    found: dict[int, float] = {}
    for k, d in enumerate(dims):
        hook = z.register_hook(lambda gradient, d=d: prefix(gradient, d))
        result = train(model, data, config, learning_rate=learning_rate, seed=seed + k, d=d)
        hook.remove()
        found[d] = problem.majority if result.metric is None else result.metric
        print(f"d = {d:,}: {result.status} {result.metric}, {result.seconds:.0f} s", flush=True)
    return found


def prefix(gradient: Tensor, d: int) -> Tensor:
    """The gradient of the first d coordinates; zero for the others, which Adam then leaves."""
    return torch.where(torch.arange(len(gradient), device=gradient.device) < d, gradient, 0)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train one run, and write its curve."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--output", type=Path, required=True, help="JSON file of the curve")
    options = parser.parse_args(arguments)
    model, task = MODELS[options.model], TASKS[options.task]
    problem = load_problem(
        model.model,
        task.task,
        max_train_samples=model.max_train_samples,
        max_eval_samples=MAX_EVAL_SAMPLES,
    )
    batches = math.ceil(len(problem.runner.data.train) / TrainConfig().batch_size)
    steps = round(PART * task.epochs * batches)
    config = TrainConfig(max_steps=steps, precision=model.precision)
    points = nested_curve(problem, config, dims=DIMS, learning_rate=LEARNING_RATE, seed=SEED)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(options.output, json.dumps(points) + "\n")


if __name__ == "__main__":
    main()
