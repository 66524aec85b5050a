"""Fine-tune d parameters with the Transformers Trainer: only the line with `attach` is from d90.

    python examples/trainer.py --model roberta-base --task sst2 --max-steps 500 --d 1000

Model and task may be local folders.
"""

from __future__ import annotations

import numpy as np
import typer
from datasets import Dataset
from transformers import DataCollatorWithPadding, EvalPrediction, Trainer, TrainingArguments

from d90 import attach, load_task
from d90.models.loading import load
from d90.tasks import Split


def accuracy(predictions: EvalPrediction) -> dict[str, float]:
    """The fraction of correct predictions."""
    logits, labels = predictions
    return {"accuracy": float((np.argmax(logits, axis=-1) == labels).mean())}


def main(
    model: str = "minilm-l6",
    task: str = "wordnet-hypernym",
    max_steps: int = 200,
    d: int = 200,
    output: str = "trainer-run",
) -> Trainer:
    """Train, evaluate, and save the d parameters to the folder `output`."""
    data = load_task(task)
    network, tokenizer = load(model, num_labels=len(data.labels))

    def encode(split: Split) -> Dataset:
        texts, *pairs = map(list, zip(*split.texts, strict=True))
        rows = tokenizer(texts, pairs[0] if pairs else None, truncation=True, max_length=128)
        return Dataset.from_dict({**rows, "labels": list(split.labels)})

    attach(network, d=d)
    learning_rate = 0.008 * (200 / d) ** 0.5  # Scaled by 1 / sqrt(d), one rate fits every d.
    trainer = Trainer(
        network,
        TrainingArguments(
            output, max_steps=max_steps, learning_rate=learning_rate, logging_steps=20
        ),
        train_dataset=encode(data.train),
        eval_dataset=encode(data.evaluation[data.primary]),
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=accuracy,
    )
    trainer.train()
    print(trainer.evaluate())
    trainer.save_model()
    return trainer


if __name__ == "__main__":
    typer.run(main)
