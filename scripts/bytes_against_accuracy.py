"""Bytes against accuracy: PEFT's small methods on a task, each at its best of four learning rates.

    python scripts/bytes_against_accuracy.py minilm-l6 data/mrpc --epochs 1 -o peft.json

Every method is trained by d90's own loop, on the same batches, with the same fresh head, which PEFT
trains beside the adapter. The bytes are those of the folder that PEFT saves, head included, without
the model card. Finished runs are kept in the output: the same command goes on.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from peft import FourierFTConfig, LoraConfig, TaskType, UniLoraConfig, VeraConfig, get_peft_model

from d90.executors.local import LocalExecutor
from d90.files import write_whole
from d90.tasks import load_task
from d90.training import TrainSettings, train

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
    "UniLoRA, 1,000 numbers": (
        lambda: UniLoraConfig(r=4, theta_d_length=1000, **COMMON),
        (1e-3, 3e-3, 1e-2, 3e-2),
    ),
}
"""For each method its settings and a ladder of learning rates by factors of about 3."""


def main() -> None:
    """Run what is not in the output yet, and print the table."""
    parser = argparse.ArgumentParser(description="Bytes against accuracy of PEFT's methods.")
    parser.add_argument("model")
    parser.add_argument("task")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    settings = TrainSettings(
        1.0, epochs=options.epochs, batch_size=options.batch_size, precision=options.precision
    )
    executor = LocalExecutor(options.model, load_task(options.task), settings)
    found = json.loads(options.output.read_text()) if options.output.exists() else []
    done = {(run["method"], run["learning_rate"]) for run in found}
    for method, (config, rates) in METHODS.items():
        for rate in rates:
            if (method, rate) not in done:
                found.append(one_run(executor, settings, method, config(), rate))
                write_whole(options.output, json.dumps(found, indent=1) + "\n")
                print(found[-1], flush=True)
    show(found)


def one_run(
    executor: LocalExecutor, settings: TrainSettings, method: str, config: Any, rate: float
) -> dict[str, Any]:
    """Train one adapter with its head, and weigh what is saved of it."""
    model = get_peft_model(deepcopy(executor.model), config)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    head = sum(p.numel() for name, p in trained.items() if "classifier" in name)
    outcome = train(model, executor.data, replace(settings, learning_rate=rate))
    with TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        size = sum(path.stat().st_size for path in Path(folder).glob("adapter_*"))
    return {
        "method": method,
        "learning_rate": rate,
        "metric": outcome.metric,
        "status": outcome.status,
        "bytes": size,
        "numbers": sum(p.numel() for p in trained.values()),
        "of the head": head,
        "seconds": round(outcome.seconds),
    }


def show(found: list[dict[str, Any]]) -> None:
    """The best run of each method, as a table of Markdown."""
    print("| method | numbers (of the head) | bytes | accuracy | learning rate |")
    print("|---|---|---|---|---|")
    for method in dict.fromkeys(run["method"] for run in found):
        runs = [run for run in found if run["method"] == method]
        best = max(runs, key=lambda run: run["metric"] or 0)
        print(
            f"| {method} | {best['numbers']:,} ({best['of the head']:,}) | {best['bytes']:,} | "
            f"{best['metric']:.4f} | {best['learning_rate']:g} |"
        )


if __name__ == "__main__":
    main()
