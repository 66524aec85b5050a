"""Fine-tune d parameters in a custom training loop: only the line with `attach` is from d90.

    python examples/accelerate_loop.py --max-steps 500 --d 1000
    accelerate launch examples/accelerate_loop.py

With several processes, the gradient that is all-reduced at each step has d entries.
"""

from __future__ import annotations

from itertools import chain, islice, repeat

import torch
import typer
from accelerate import Accelerator
from accelerate.utils import set_seed
from datasets import Dataset
from torch import nn
from torch.utils.data import DataLoader
from transformers import DataCollatorWithPadding

from d90 import attach, load_task
from d90.models.loading import load


def main(
    model: str = "minilm-l6", task: str = "wordnet-hypernym", max_steps: int = 200, d: int = 200
) -> tuple[nn.Module, list[float]]:
    """Train for `max_steps` steps; returns the model and the loss of each step."""
    set_seed(0)
    data = load_task(task)
    network, tokenizer = load(model, num_labels=len(data.labels))
    texts, *pairs = map(list, zip(*data.train.texts, strict=True))
    columns = tokenizer(texts, pairs[0] if pairs else None, truncation=True, max_length=128)
    rows = Dataset.from_dict({**columns, "labels": list(data.train.labels)})
    loader = DataLoader(
        rows,  # pyright: ignore[reportArgumentType]
        batch_size=16,
        shuffle=True,
        collate_fn=DataCollatorWithPadding(tokenizer),
    )
    attach(network, d=d)
    learning_rate = 0.008 * (200 / d) ** 0.5  # Scaled by 1 / sqrt(d), one rate fits every d.
    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate)
    accelerator = Accelerator()
    network, optimizer, loader = accelerator.prepare(network, optimizer, loader)
    network.train()
    losses = []
    for batch in islice(chain.from_iterable(repeat(loader)), max_steps):
        loss = network(**batch).loss
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        if len(losses) % 20 == 0:
            accelerator.print(f"step {len(losses)}: loss {sum(losses[-20:]) / 20:.3f}")
    return accelerator.unwrap_model(network), losses


if __name__ == "__main__":
    typer.run(main)
