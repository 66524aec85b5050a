"""Fine-tune d parameters as a PEFT adapter: only the `D90Config` is from d90.

    python examples/peft_adapter.py --max-steps 500 --d 1000

Requires `pip install 'd90[peft]'`.
"""

from __future__ import annotations

import typer
from datasets import Dataset
from peft import PeftModel, get_peft_model
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

from d90 import load_task
from d90.models.loading import load
from d90.peft import D90Config


def main(
    model: str = "minilm-l6",
    task: str = "wordnet-hypernym",
    max_steps: int = 200,
    d: int = 200,
    output: str = "peft-run",
) -> Trainer:
    """Train an adapter; save it to `output/adapter` and the merged model to `output/merged`.

    Returns:
        The trainer, with the trained model.
    """
    data = load_task(task)
    base, tokenizer = load(model, num_labels=len(data.labels))
    texts, *pairs = map(list, zip(*data.train.texts, strict=True))
    rows = tokenizer(texts, pairs[0] if pairs else None, truncation=True, max_length=128)
    adapter = get_peft_model(base, D90Config(d=d, task_type="SEQ_CLS"))
    adapter.print_trainable_parameters()
    learning_rate = 0.008 * (200 / d) ** 0.5  # Scaled by 1 / sqrt(d), one rate fits every d.
    trainer = Trainer(
        adapter,
        TrainingArguments(
            output, max_steps=max_steps, learning_rate=learning_rate, logging_steps=20
        ),
        train_dataset=Dataset.from_dict({**rows, "labels": list(data.train.labels)}),
        data_collator=DataCollatorWithPadding(tokenizer),
    )
    trainer.train()
    adapter.save_pretrained(f"{output}/adapter")

    # The base model, including its new head, is the same at every load: the head has a seed.
    base, tokenizer = load(model, num_labels=len(data.labels))
    loaded = PeftModel.from_pretrained(base, f"{output}/adapter")
    loaded.merge_and_unload().save_pretrained(f"{output}/merged")
    tokenizer.save_pretrained(f"{output}/merged")
    return trainer


if __name__ == "__main__":
    typer.run(main)
