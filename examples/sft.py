"""Supervised fine-tuning of d parameters with TRL: only the `D90Config` is from d90.

    python examples/sft.py --task gsm8k --d 1000 --max-steps 500

The task is one of generation: a name, or a folder of prompts and completions. Requires
`pip install 'd90[trl]'`.
"""

from __future__ import annotations

import torch
import typer
from datasets import Dataset
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from d90 import load_task
from d90.peft import D90Config
from d90.tasks import Split


def rows(split: Split) -> Dataset:
    """A split with the columns of TRL."""
    prompts = [prompt for (prompt,) in split.texts]
    return Dataset.from_dict({"prompt": prompts, "completion": list(split.labels)})


def main(
    model: str = "HuggingFaceTB/SmolLM2-135M-Instruct",
    task: str = "wordnet-lemma",
    max_steps: int = 200,
    d: int = 200,
    batch_size: int = 8,
    output: str = "sft-run",
) -> SFTTrainer:
    """Train an adapter and save it to the folder `output`; prints the loss before and after."""
    data = load_task(task, max_eval_samples=200)
    trainer = SFTTrainer(
        model,
        args=SFTConfig(
            output,
            max_steps=max_steps,
            learning_rate=0.008 * (200 / d) ** 0.5,  # One rate fits every d.
            per_device_train_batch_size=batch_size,
            per_device_eval_batch_size=batch_size,
            logging_steps=10,
            save_strategy="no",
            bf16=torch.cuda.is_available(),
        ),
        train_dataset=rows(data.train),
        eval_dataset=rows(data.evaluation[data.primary]),
        peft_config=D90Config(d=d, task_type="CAUSAL_LM"),
    )
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    after = trainer.evaluate()["eval_loss"]
    print(f"{d} parameters: loss {before:.3f} before, {after:.3f} after")
    trainer.save_model()
    return trainer


if __name__ == "__main__":
    typer.run(main)
