"""Reinforcement learning of d parameters with TRL: only the `D90Config` is from d90.

    python examples/grpo.py --d 13 --max-steps 500

The model learns to add. A completion is rewarded if its first number is the sum; no completion is
given. Requires `pip install 'd90[trl]'`.
"""

from __future__ import annotations

import random
import re

import torch
import typer
from datasets import Dataset
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer

from d90.peft import D90Config

EXAMPLES = "1 + 1 = 2\n12 + 3 = 15\n"


def sums(rows: int, max_term: int, seed: int) -> Dataset:
    """Prompts such as "17 + 8 =", after two examples, and the answers."""
    rng = random.Random(seed)
    terms = [(rng.randint(0, max_term), rng.randint(0, max_term)) for _ in range(rows)]
    return Dataset.from_dict(
        {
            "prompt": [f"{EXAMPLES}{a} + {b} =" for a, b in terms],
            "answer": [a + b for a, b in terms],
        }
    )


def is_right(completions: list[str], answer: list[int], **_: object) -> list[float]:
    """1 where the first number of the completion is the answer, 0 elsewhere.

    >>> is_right([" 25. This is", " 2 5", " five"], answer=[25, 25, 5])
    [1.0, 0.0, 0.0]
    """
    numbers = [re.search(r"\d+", completion) for completion in completions]
    return [float(n is not None and int(n[0]) == a) for n, a in zip(numbers, answer, strict=True)]


def mean_reward(trainer: GRPOTrainer) -> float:
    """The fraction of right completions of the evaluation's prompts."""
    trainer.evaluate()
    return trainer.state.log_history[-1]["eval_reward"]


def main(
    model: str = "HuggingFaceTB/SmolLM2-135M-Instruct",
    max_steps: int = 200,
    d: int = 13,
    max_term: int = 20,
    batch_size: int = 16,
    output: str = "grpo-run",
) -> GRPOTrainer:
    """Train an adapter and save it to the folder `output`; prints the reward before and after."""
    trainer = GRPOTrainer(
        model,
        reward_funcs=is_right,  # pyright: ignore[reportArgumentType]
        args=GRPOConfig(
            output,
            max_steps=max_steps,
            learning_rate=0.008 * (200 / d) ** 0.5,  # One rate fits every d.
            per_device_train_batch_size=batch_size,
            per_device_eval_batch_size=batch_size,
            num_generations=8,
            max_completion_length=6,
            logging_steps=10,
            save_strategy="no",
            bf16=torch.cuda.is_available(),
        ),
        train_dataset=sums(4000, max_term, seed=0),
        eval_dataset=sums(16, max_term, seed=1),
        peft_config=D90Config(d=d, task_type="CAUSAL_LM"),
    )
    before = mean_reward(trainer)
    trainer.train()
    after = mean_reward(trainer)
    print(f"{d} parameters: reward {before:.3f} before, {after:.3f} after")
    trainer.save_model()
    return trainer


if __name__ == "__main__":
    typer.run(main)
