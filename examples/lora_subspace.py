"""A subspace of LoRA factors: d parameters at the cost of LoRA, saved as a plain LoRA adapter.

    python examples/lora_subspace.py --d 200 --max-steps 400

LoRA's factors are the only weights that require grad, so `attach` moves them and nothing else.
Requires `pip install 'd90[peft]'`, and the packaged model of docs/training.md or another one.
"""

from __future__ import annotations

import torch
import typer
from peft import LoraConfig, PeftModel, get_peft_model

from d90 import attach, load_task
from d90.models.loading import load
from d90.search.trial import TrialResult
from d90.subspace import merge
from d90.tasks import kind_of
from d90.training import TrainConfig, train
from d90.training.data import tokenize


def main(
    model: str = "smollm2-135m",
    task: str = "wordnet-lemma",
    max_steps: int = 200,
    d: int = 200,
    rank: int = 8,
    output: str = "lora-run",
) -> tuple[PeftModel, TrialResult]:
    """Train d parameters, and save the factors that they give.

    Returns:
        The model with its LoRA, and how its training went.
    """
    data = load_task(task)
    kind = kind_of(data)
    base, tokenizer = load(model, **kind.model_options)
    with torch.random.fork_rng():
        torch.manual_seed(0)  # LoRA's A is random, its B is 0: z = 0 changes nothing.
        lora = get_peft_model(base, LoraConfig(r=rank, target_modules="all-linear"))
    examples = tokenize(data, tokenizer, kind=kind.on(base), max_length=32)

    subspace = attach(base, d=d)  # LoRA's layers are inside of it.
    print(f"{d} parameters move {subspace.layout.D:,} in LoRA factors")
    config = TrainConfig(max_steps=max_steps, batch_size=16)
    result = train(base, examples, config, learning_rate=0.008, d=d)
    print(f"{data.metric} {result.metric}")

    merge(base)  # The factors are parameters again, at theta.
    lora.save_pretrained(output)
    return lora, result


if __name__ == "__main__":
    typer.run(main)
