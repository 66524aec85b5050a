"""d90 by reward: with how few parameters does a model learn to add, by reinforcement learning?

    python examples/grpo_search.py
    python examples/grpo_search.py --method sft

Each trial of `d90.search` is a run of TRL's `GRPOTrainer`, or of its `SFTTrainer` on the same
problems with their answers; the score is the fraction of problems that greedy decoding gets right.
Rerun the script to resume. Requires `pip install 'd90[trl]'`.
"""

from __future__ import annotations

import random
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import typer
from datasets import Dataset, disable_progress_bars
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback
from transformers.utils.logging import disable_progress_bar
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

import d90
from d90.peft import D90Config
from d90.report import write_report
from d90.training import subspace_learning_rate

EVALUATION = 500
MAX_NEW_TOKENS = 6


def problems(max_term: int, *, training: bool) -> list[tuple[int, int]]:
    """Pairs of terms up to `max_term`: those of the evaluation, or all others."""
    pairs = [(a, b) for a in range(max_term + 1) for b in range(max_term + 1)]
    random.Random(0).shuffle(pairs)
    held_out = min(EVALUATION, len(pairs) // 4)
    return pairs[held_out:] if training else pairs[:held_out]


def is_right(completions: list[str], answer: list[int], **_: object) -> list[float]:
    """The reward: 1 where the first number of the completion is the answer, 0 elsewhere."""
    numbers = [re.search(r"\d+", completion) for completion in completions]
    return [float(n is not None and int(n[0]) == a) for n, a in zip(numbers, answer, strict=True)]


@dataclass(frozen=True)
class Adding:
    """The objective: trains `trial.d` parameters, or all, and returns the fraction of right sums.

    Args:
        model: a folder or a hub name.
        method: `grpo`, or `sft` on the answers.
        steps, batch_size: of training; a batch of GRPO is of completions, 8 to a problem.
        max_term: largest term.
        examples: text before every problem.
        answer: the format of an answer to learn from; GRPO has none to learn from.
    """

    model: str = "HuggingFaceTB/SmolLM2-135M-Instruct"
    method: str = "grpo"
    steps: int = 100
    batch_size: int = 32
    max_term: int = 20
    examples: str = "1 + 1 = 2\n12 + 3 = 15\n"
    answer: str = " {}"

    def __call__(self, trial: d90.Trial) -> float:
        """The score of one trial."""
        with TemporaryDirectory() as folder:
            trainer = self.trainer(trial, folder)
            trainer.train()
        return self.score(trainer.model)

    def trainer(self, trial: d90.Trial, folder: str) -> GRPOTrainer | SFTTrainer:
        """Of TRL, ready to train."""
        rows = problems(self.max_term, training=True)
        data: dict[str, list[Any]] = {"prompt": [self.prompt(a, b) for a, b in rows]}
        settings: dict[str, Any] = {
            "max_steps": self.steps,
            "learning_rate": subspace_learning_rate(trial.learning_rate, trial.d),
            "per_device_train_batch_size": self.batch_size,
            "seed": trial.seed,
            "bf16": torch.cuda.is_available(),
            "gradient_checkpointing": False,
            "save_strategy": "no",
            "logging_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
        }
        subspace = (
            None
            if trial.d is None
            else D90Config(d=trial.d, seed=trial.seed, task_type="CAUSAL_LM")
        )
        if self.method == "sft":
            data["completion"] = [self.answer.format(a + b) for a, b in rows]
            trainer = SFTTrainer(
                self.model,
                args=SFTConfig(folder, **settings),
                train_dataset=Dataset.from_dict(data),
                peft_config=subspace,
            )
        else:
            data["answer"] = [a + b for a, b in rows]
            trainer = GRPOTrainer(
                self.model,
                reward_funcs=is_right,  # pyright: ignore[reportArgumentType]
                args=GRPOConfig(folder, max_completion_length=MAX_NEW_TOKENS, **settings),
                train_dataset=Dataset.from_dict(data),
                peft_config=subspace,
            )
        trainer.remove_callback(PrinterCallback)
        return trainer

    def prompt(self, a: int, b: int) -> str:
        """What the model completes."""
        return f"{self.examples}{a} + {b} ="

    def pretrained_score(self) -> float:
        """The score before training."""
        return self.score(AutoModelForCausalLM.from_pretrained(self.model, dtype=torch.float32))

    def score(self, model: Any) -> float:
        """The fraction of the evaluation's problems that greedy decoding gets right."""
        tokenizer = AutoTokenizer.from_pretrained(self.model, padding_side="left")
        tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
        rows = problems(self.max_term, training=False)
        right = 0.0
        for start in range(0, len(rows), 100):
            batch = rows[start : start + 100]
            inputs = tokenizer(
                [self.prompt(a, b) for a, b in batch],
                return_tensors="pt",
                padding=True,
                return_token_type_ids=False,
            ).to(next(model.parameters()).device)
            with torch.inference_mode():
                tokens = model.eval().generate(
                    **inputs, do_sample=False, max_new_tokens=MAX_NEW_TOKENS
                )
            new = tokens[:, inputs["input_ids"].shape[1] :]
            texts = tokenizer.batch_decode(new, skip_special_tokens=True)
            right += sum(is_right(texts, [a + b for a, b in batch]))
        return right / len(rows)


def main(
    model: str = Adding.model,
    method: str = "grpo",
    steps: int = 100,
    batch_size: int = 32,
    max_dim: int = 10_000,
    budget: int = 24,
    store: str = "d90.db",
    output: str = "reports/adding",
) -> d90.Summary:
    """Measure d90 and write a report to the folder `output`."""
    disable_progress_bars()
    disable_progress_bar()
    objective = Adding(model, method, steps, batch_size)
    summary = d90.search(
        objective,
        name=f"adding-{method}",
        settings=asdict(objective),
        protocol=d90.AdaptiveProtocol(
            min_dim=1,
            max_dim=max_dim,
            budget=budget,
            baseline_learning_rates=(3e-5, 1e-4) if method == "sft" else (1e-5, 3e-5),
        ),
        metric="exact_match",
        floor=objective.pretrained_score(),
        floor_name="pretrained model",
        evaluation_size=len(problems(objective.max_term, training=False)),
        store=store,
    )
    write_report(summary, Path(output))
    print(f"d90 = {summary.d90}, {summary.interval}: {summary.status} {summary.reason}")
    return summary


if __name__ == "__main__":
    typer.run(main)
