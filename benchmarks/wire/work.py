"""One of two processes that train a 4-million-weight BERT together, and its network traffic.

    python -m benchmarks.wire.work '{"d": 1000, "steps": 10, ...}'

RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT must be set, as for torch. Prints one line of JSON.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass

import torch
from transformers import BertConfig, BertForSequenceClassification

from benchmarks.wire.counter import count_bytes, gradient_bytes
from benchmarks.wire.link import sent_bytes
from d90.distributed.launcher import destroy_process_group
from d90.subspace import attach
from d90.tasks.kinds import Classification
from d90.tasks.tokens import TokenizedSplit
from d90.training import TrainConfig
from d90.training.data import TokenizedTask
from d90.training.trainer import Trainer

VOCABULARY = 30522


@dataclass(frozen=True)
class Work:
    """The training that both processes do.

    Attributes:
        d: trainable parameters; None for full fine-tuning.
        steps: optimizer steps that are measured.
        warmup_steps: optimizer steps before these, which allocate memory and warm up.
        batch_size: examples per forward pass, over both processes.
        gradient_accumulation_steps: batches per optimizer step.
        length: tokens per example.
    """

    d: int | None
    steps: int
    warmup_steps: int = 2
    batch_size: int = 32
    gradient_accumulation_steps: int = 1
    length: int = 128

    @property
    def name(self) -> str:
        return "full" if self.d is None else f"d = {self.d:,}"

    @property
    def examples(self) -> int:
        """Examples per optimizer step."""
        return self.batch_size * self.gradient_accumulation_steps

    def to_json(self) -> str:
        return json.dumps(asdict(self))


@dataclass(frozen=True)
class WorkResult:
    """Times and bytes of the measured optimizer steps, in one process.

    Attributes:
        weights: D.
        seconds: of each optimizer step.
        counted: bytes of the gradient passed to torch.distributed, per optimizer step.
        others: bytes passed to torch.distributed for anything else, in total.
        kernel: bytes sent through the network interface, per optimizer step.
    """

    weights: int
    seconds: list[float]
    counted: float
    others: int
    kernel: float


def model() -> BertForSequenceClassification:
    """Random weights in the shape of bert-tiny: 4.4 million, most of them embeddings."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=512,
    )
    return BertForSequenceClassification(config)


def data(examples: int, length: int) -> TokenizedTask:
    """Random tokens with labels of two classes."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(1000, VOCABULARY, (examples * length,), generator=generator)
    labels = torch.randint(2, (examples,), generator=generator)
    split = TokenizedSplit({"input_ids": ids.int()}, torch.arange(examples + 1) * length, labels)
    few = split.subset([0, 1])
    return TokenizedTask(
        Classification(("a", "b")),
        "accuracy",
        split,
        few,
        {"validation": few},
        {"input_ids": 0},
        "right",
    )


def measure(work: Work) -> WorkResult:
    """Train, and measure the time and the bytes of each optimizer step."""
    trained = model()
    weights = sum(p.numel() for p in trained.parameters())
    if work.d is not None:
        attach(trained, d=work.d)
    max_steps = work.warmup_steps + work.steps
    config = TrainConfig(
        max_steps=max_steps,
        optimizer="adamw" if work.d is None else "adam",
        batch_size=work.batch_size,
        gradient_accumulation_steps=work.gradient_accumulation_steps,
        precision="no",
    )
    task = data(work.examples * max_steps, work.length)
    trainer = Trainer(trained, task, config, learning_rate=1e-4)
    for _ in range(work.warmup_steps):
        trainer.optimizer_step()
    trainer.process_group.all_gather_object("ready")
    time.sleep(0.5)  # Acknowledgements of earlier messages must not be counted.
    before, seconds = sent_bytes(), []
    with count_bytes() as sent:
        for _ in range(work.steps):
            start = time.perf_counter()
            trainer.optimizer_step()
            seconds.append(time.perf_counter() - start)
    kernel = sent_bytes() - before
    trainer.process_group.all_gather_object("done")
    trainer.close()
    gradient = gradient_bytes(sent)
    others = sent.total() - gradient
    return WorkResult(weights, seconds, gradient / work.steps, others, kernel / work.steps)


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(asdict(measure(Work(**json.loads(sys.argv[1]))))), flush=True)
    destroy_process_group()
