"""Size on disk against accuracy of PEFT's small methods, each at the best of four learning rates.

    d90 measure MODEL TASK --dims 50,200,1000 --epochs 4 --output bytes-d90 ...
    python scripts/bytes_against_accuracy.py MODEL TASK --epochs 4 -o peft.json \\
        --study bytes-d90 --figure bytes.svg

Every method is trained with d90's loop on the same batches and with the same new head, which PEFT
trains in addition to the adapter. The bytes are those of the folder that PEFT saves, head included,
without the model card. Finished runs are kept in the output: rerun the command to resume.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from peft import FourierFTConfig, LoraConfig, TaskType, UniLoraConfig, VeraConfig, get_peft_model

from d90.adapters import BaseModelInfo, Float16Codec, TaskInfo, new_adapter
from d90.executors.runner import TrialRunner
from d90.report import plotting
from d90.search.summary import Summary
from d90.tasks import load_task
from d90.training import TrainConfig, train
from d90.utils.files import atomic_write

COMMON: dict[str, Any] = {"task_type": TaskType.SEQ_CLS, "target_modules": ["query", "value"]}

METHODS: dict[str, tuple[Callable[[], Any], tuple[float, ...]]] = {
    "LoRA, r = 1": (
        lambda: LoraConfig(r=1, lora_alpha=2, **COMMON),
        (1e-3, 3e-3, 1e-2, 3e-2),
    ),
    "VeRA, r = 256": (
        lambda: VeraConfig(r=256, save_projection=False, **COMMON),
        (1e-3, 3e-3, 1e-2, 3e-2),
    ),
    "FourierFT, n = 100": (
        lambda: FourierFTConfig(n_frequency=100, scaling=100.0, **COMMON),
        (3e-3, 1e-2, 3e-2, 1e-1),
    ),
    "UniLoRA, 1,000 parameters": (
        lambda: UniLoraConfig(r=4, theta_d_length=1000, **COMMON),
        (1e-3, 3e-3, 1e-2, 3e-2),
    ),
}
"""For each method its PEFT configuration and learning rates, about a factor of 3 apart."""


@dataclass(frozen=True)
class Point:
    """A method at its best learning rate.

    Attributes:
        parameters: number of trained parameters, `head` of them in the head beside the adapter.
        size: bytes of what is saved.
    """

    name: str
    parameters: int
    head: int
    size: int
    metric: float
    rate: float


def main() -> None:
    """Run what is not in the output yet and print the table."""
    parser = argparse.ArgumentParser(description="Bytes against accuracy of PEFT's methods.")
    parser.add_argument("model")
    parser.add_argument("task")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--study", type=Path, help="report of a d90 measure study")
    parser.add_argument("--figure", type=Path, help="SVG to write; a PNG is written beside it")
    options = parser.parse_args()
    config = TrainConfig(
        epochs=options.epochs, batch_size=options.batch_size, precision=options.precision
    )
    executor = TrialRunner(options.model, load_task(options.task), config)
    found = json.loads(options.output.read_text()) if options.output.exists() else []
    done = {(run["method"], run["learning_rate"]) for run in found}
    for method, (peft_config, rates) in METHODS.items():
        for rate in rates:
            if (method, rate) not in done:
                found.append(one_run(executor, method, peft_config(), rate))
                atomic_write(options.output, json.dumps(found, indent=1) + "\n")
                print(found[-1], flush=True)
    points = of_peft(found)
    if options.study is not None:
        points += of_study(options.study)
    show(points)
    if options.figure is not None:
        task = load_task(options.task)
        majority = task.evaluation[task.primary].majority
        atomic_write(options.figure, plotting.svg(lambda: draw(points, majority)))
        atomic_write(
            options.figure.with_suffix(".png"), plotting.png(lambda: draw(points, majority))
        )


def one_run(executor: TrialRunner, method: str, config: Any, rate: float) -> dict[str, Any]:
    """Train one adapter with its head, and measure the size of what is saved."""
    model = get_peft_model(deepcopy(executor.model), config)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    head = sum(p.numel() for name, p in trained.items() if "classifier" in name)
    outcome = train(model, executor.data, executor.config, learning_rate=rate)
    with TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        size = sum(path.stat().st_size for path in Path(folder).glob("adapter_*"))
    return {
        "method": method,
        "learning_rate": rate,
        "metric": outcome.metric,
        "status": outcome.status,
        "bytes": size,
        "parameters": sum(p.numel() for p in trained.values()),
        "head_parameters": head,
        "seconds": round(outcome.seconds),
    }


def of_study(folder: Path) -> list[Point]:
    """Adapters in float16 at each d of a study, and full fine-tuning, each at its best rate."""
    summary = Summary.load(folder)
    found = []
    for d in dict.fromkeys(result.trial.d for result in summary.ordered_trials):
        runs = [r for r in summary.ordered_trials if r.trial.d == d and r.metric is not None]
        best = max(runs, key=lambda run: run.metric or 0)
        name = "full fine-tuning" if d is None else f"d90, d = {d:,}"
        parameters = summary.D if d is None else d
        assert parameters is not None
        size = 4 * parameters if d is None else file_size(summary, d)
        found.append(Point(name, parameters, 0, size, best.metric or 0, best.trial.learning_rate))
    return found


def file_size(summary: Summary, d: int) -> int:
    """Bytes of an adapter of this study at d, in float16."""
    assert summary.subspace is not None and summary.D is not None
    space = replace(summary.subspace, d=d)
    base = BaseModelInfo(summary.model, "", "0" * 64, D=summary.D)
    columns, labels = ("sentence1", "sentence2"), ("0", "1")
    use = TaskInfo(summary.task, columns, labels, 128, summary.metric, 0.5)
    return len(
        new_adapter(np.ones(d, dtype=np.float32), space, base, use, m=summary.m or 0)
        .with_codec(Float16Codec())
        .to_bytes()
    )


def of_peft(found: list[dict[str, Any]]) -> list[Point]:
    """The best run of each method."""
    points = []
    for method in dict.fromkeys(run["method"] for run in found):
        runs = [run for run in found if run["method"] == method]
        best = max(runs, key=lambda run: run["metric"] or 0)
        head, size = best["head_parameters"], best["bytes"]
        rate = best["learning_rate"]
        points.append(Point(method, best["parameters"], head, size, best["metric"] or 0, rate))
    return points


def show(points: list[Point]) -> None:
    """Print the points as a Markdown table."""
    print("| method | parameters (in the head) | bytes | accuracy | learning rate |")
    print("|---|---|---|---|---|")
    for p in sorted(points, key=lambda point: point.size):
        head = f" ({p.head:,})" if p.head else ""
        parameters = f"{p.parameters:,}{head}"
        print(f"| {p.name} | {parameters} | {p.size:,} | {p.metric:.3f} | {p.rate:g} |")


def draw(points: list[Point], majority: float) -> Figure:
    """Plot accuracy against bytes, one point for each method."""
    figure = Figure(figsize=(4.6, 3.0), layout="constrained")
    axes = figure.add_subplot()
    marks = plotting.markers(p.name for p in points)
    hues = plotting.colors(p.name for p in points)
    for p in sorted(points, key=lambda point: point.size):
        style: dict[str, Any] = {"marker": marks[p.name], "color": hues[p.name], "linestyle": ""}
        axes.plot([p.size], [p.metric], markersize=6, label=p.name, **style)
    axes.axhline(majority, color=plotting.SOFT, linewidth=0.8, linestyle=":")
    axes.annotate(
        "majority class",
        (1, majority),
        xycoords=("axes fraction", "data"),
        ha="right",
        va="bottom",
        fontsize=7,
        color=plotting.SOFT,
    )
    axes.set_xscale("log")
    axes.set_xlabel("bytes of all files needed to load it")
    axes.set_ylabel("accuracy")
    axes.legend(frameon=False, fontsize=6.5, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


if __name__ == "__main__":
    main()
