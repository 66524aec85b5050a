"""Claim 5: what lowers d90 beyond the paper's method, each variant with the same budget.

    python -m benchmarks.claims.lowering VARIANT MODEL TASK --repetition 0 --output FOLDER

Two scale policies of our own are among the variants. They exist here alone:

* `damped`: `tensor`, with the matrices outside of the head times 0.2;
* `gradient`: all tensors together move as far as by `tensor`, but the square of each one's part is
  in proportion to the squared norm of its gradient at theta_0 (the first 256 training examples).
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.claims.study import REPETITIONS, SEEDS_APART, Study, answer, pooled
from benchmarks.claims.tasks import MAX_EVAL_SAMPLES, MODELS, TASKS
from benchmarks.markdown import markdown_table
from d90.experiments.callbacks import Callback
from d90.experiments.measure import measure
from d90.experiments.problem import Problem, load_problem
from d90.experiments.study import Study as D90Study
from d90.search import subspace_config
from d90.search.protocols import LEARNING_RATES, AdaptiveProtocol
from d90.search.summary import FILE_NAME, Summary
from d90.search.trial import TrialResult
from d90.subspace import scaling
from d90.subspace.layout import find_params
from d90.training import TrainConfig
from d90.utils.files import atomic_write

DAMPING = 0.2
GRADIENT_EXAMPLES = 256


@dataclass(frozen=True)
class Variant:
    """What differs from the paper's method.

    Attributes:
        method, groups, projection, scale: of the subspace.
        learning_rates: of the subspace trials: four by factors of 2, since a policy decides how far
            one rate moves the weights.
    """

    method: str = "did"
    groups: str = "layer"
    projection: str = "fastfood"
    scale: str = "tensor"
    learning_rates: tuple[float, ...] = LEARNING_RATES


VARIANTS: Mapping[str, Variant] = {
    "tensor": Variant(),
    "model": Variant(scale="model", learning_rates=(0.064, 0.128, 0.256, 0.512)),
    "rms": Variant(scale="rms", learning_rates=(0.064, 0.128, 0.256, 0.512)),
    "vectors": Variant(scale="vectors", learning_rates=(0.004, 0.008, 0.016, 0.032)),
    "damped": Variant(scale="damped", learning_rates=(0.004, 0.008, 0.016, 0.032)),
    "gradient": Variant(scale="gradient"),
    "onehot": Variant(projection="onehot"),
    "sparse": Variant(projection="sparse"),
    "said-layer": Variant(method="said"),
    "said-module": Variant(method="said", groups="module"),
    "said-tensor": Variant(method="said", groups="tensor"),
}

PAIRS = (("bert-tiny", "sst2"), ("bert-tiny", "emotion"), ("minilm-l6", "sst2"))


@dataclass(frozen=True)
class Lowered(Study):
    """A study of one variant; `options` are those of this module."""

    @property
    def arguments(self) -> list[str]:
        return ["benchmarks.claims.lowering", *self.options, f"--output={self.name}"]


def studies() -> list[Study]:
    """All studies, a first repetition of every variant before any second."""
    return [
        study(variant, model, task, k)
        for k in range(REPETITIONS)
        for model, task in PAIRS
        for variant in VARIANTS
    ]


def study(variant: str, model: str, task: str, repetition: int) -> Study:
    """One repetition of a variant."""
    name = f"lowering/{model}-{task}-{variant}-{repetition}"
    options = (variant, model, task, f"--repetition={repetition}")
    return Lowered(name, MODELS[model].model, TASKS[task].task, options)


def table(found: Mapping[Study, Summary]) -> str:
    """A row for each variant, with d90 of all trials together on each pair, as Markdown."""
    rows = [["variant", *(" on ".join(pair) for pair in PAIRS)]]
    for variant in VARIANTS:
        rows.append([variant])
        for pair in PAIRS:
            repetitions = (study(variant, *pair, k) for k in range(REPETITIONS))
            summaries = [found[s] for s in repetitions if s in found]
            rows[-1].append(answer(pooled(summaries, "accuracy")) if summaries else "")
    return markdown_table(rows)


def damped(theta_0: Sequence[Tensor], in_head: Sequence[bool]) -> list[float]:
    """The policy `damped`."""
    scales = scaling.tensor(theta_0, in_head)
    return [
        s if head or t.ndim < 2 else DAMPING * s
        for t, s, head in zip(theta_0, scales, in_head, strict=True)
    ]


def gradient_scales(norms: Sequence[float], sizes: Sequence[int]) -> list[float]:
    """The scales of the policy `gradient`: sum of N s^2 = T D, N s^2 in proportion to norm^2.

    Args:
        norms: of the gradient of each of the T tensors.
        sizes: N, whose sum is D.
    """
    whole = len(sizes) * sum(sizes) / sum(norm**2 for norm in norms)
    return [norm * math.sqrt(whole / size) for norm, size in zip(norms, sizes, strict=True)]


def gradient_policy(problem: Problem) -> scaling.Policy:
    """The policy `gradient` of a model on a task; every model of the study has these scales."""
    runner = problem.runner
    rows = range(min(GRADIENT_EXAMPLES, len(runner.data.train)))
    data, kind = runner.data, runner.data.kind
    inputs, labels = kind.collate(data, data.train, rows, runner.model.device)
    parameters = [ref.parameter for ref in find_params(runner.model)]
    runner.model.eval()
    loss = kind.loss(runner.model, inputs, labels)
    gradients = torch.autograd.grad(loss, parameters, materialize_grads=True)
    scales = gradient_scales(
        [float(gradient.norm()) for gradient in gradients], [p.numel() for p in parameters]
    )
    return lambda theta_0, in_head: scales


def run(variant: Variant, model: str, task: str, *, repetition: int, output: Path) -> Summary:
    """Measure d90 of one variant; resumes from its store."""
    model_settings, task_settings = MODELS[model], TASKS[task]
    problem: dict[str, Any] = {
        "model": model_settings.model,
        "task": task_settings.task,
        "max_train_samples": model_settings.max_train_samples,
        "max_eval_samples": MAX_EVAL_SAMPLES,
    }
    policies: dict[str, scaling.Policy] = {"damped": damped}
    if variant.scale == "gradient":
        policies["gradient"] = gradient_policy(load_problem(**problem))
    with registered(policies):
        return measure(
            **problem,
            method=variant.method,
            groups=variant.groups,
            projection=variant.projection,
            scale=variant.scale,
            protocol=AdaptiveProtocol(
                learning_rates=variant.learning_rates,
                baseline_learning_rates=model_settings.baseline_learning_rates,
                seeds=(repetition * SEEDS_APART,),
            ),
            training=TrainConfig(epochs=task_settings.epochs, precision=model_settings.precision),
            store=output.with_suffix(".db"),
            callback=Printer(),
        )


class Printer(Callback):
    """One line for each trial."""

    def on_trial_end(
        self, study: D90Study, result: TrialResult, results: Sequence[TrialResult], *, reused: bool
    ) -> None:
        print(f"{result.trial} {result.status} {result.metric} {result.seconds:.0f} s", flush=True)


@contextmanager
def registered(policies: Mapping[str, scaling.Policy]) -> Iterator[None]:
    """Scale policies by name, for as long as the block."""
    names = subspace_config.SCALES
    scaling.SCALES.update(policies)
    subspace_config.SCALES = (*names, *policies)
    try:
        yield
    finally:
        subspace_config.SCALES = names
        for name in policies:
            del scaling.SCALES[name]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure one variant, and write its summary."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("variant", choices=VARIANTS)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--repetition", type=int, default=0)
    parser.add_argument("--output", type=Path, required=True, help="folder of summary.json")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    summary = run(
        VARIANTS[options.variant],
        options.model,
        options.task,
        repetition=options.repetition,
        output=options.output,
    )
    atomic_write(options.output / FILE_NAME, summary.to_json())


if __name__ == "__main__":
    main()
