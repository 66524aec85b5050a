"""One of two processes that train a 4-million-weight BERT together, and what it sees of the wire.

    python -m benchmarks.wire.work '{"d": 1000, "updates": 10, ...}'

with RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT as torch has them. Prints one line of JSON.
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
from d90.training import TrainConfig
from d90.training.data import TokenizedSplit, TokenizedTask
from d90.training.trainer import Trainer

VOCABULARY = 30522


@dataclass(frozen=True)
class Work:
    """What the two do.

    Attributes:
        d: numbers trained; None for full fine-tuning.
        updates: measured.
        before: updates made before these, which allocate and warm up.
        batch_size: texts a forward pass, of both processes together.
        accumulation: batches an update.
        length: tokens a text.
    """

    d: int | None
    updates: int
    before: int = 2
    batch_size: int = 32
    accumulation: int = 1
    length: int = 128

    @property
    def name(self) -> str:
        return "full" if self.d is None else f"d = {self.d:,}"

    @property
    def texts(self) -> int:
        """Texts an update."""
        return self.batch_size * self.accumulation

    def to_json(self) -> str:
        return json.dumps(asdict(self))


@dataclass(frozen=True)
class Seen:
    """What a process saw of the measured updates.

    Attributes:
        weights: D.
        seconds: of each update.
        counted: bytes of the gradient handed to torch, per optimizer step.
        others: bytes handed to torch for anything else.
        kernel: bytes that left through the interface, an update.
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


def data(texts: int, length: int) -> TokenizedTask:
    """Random tokens of two classes."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(1000, VOCABULARY, (texts * length,), generator=generator)
    labels = torch.randint(2, (texts,), generator=generator)
    split = TokenizedSplit({"input_ids": ids.int()}, torch.arange(texts + 1) * length, labels)
    few = split.subset([0, 1])
    return TokenizedTask(
        ("a", "b"), "accuracy", split, few, {"validation": few}, {"input_ids": 0}, "right"
    )


def measure(work: Work) -> Seen:
    """Train, and watch."""
    trained = model()
    weights = sum(p.numel() for p in trained.parameters())
    if work.d is not None:
        attach(trained, d=work.d)
    updates = work.before + work.updates
    config = TrainConfig(
        max_steps=updates,
        optimizer="adamw" if work.d is None else "adam",
        batch_size=work.batch_size,
        gradient_accumulation_steps=work.accumulation,
        precision="no",
    )
    run = Trainer(trained, data(work.texts * updates, work.length), config, learning_rate=1e-4)
    for _ in range(work.before):
        run.optimizer_step()
    run.process_group.all_gather_object("ready")
    time.sleep(0.5)  # Acknowledgements of what was sent before are not of the updates.
    before, seconds = sent_bytes(), []
    with count_bytes() as sent:
        for _ in range(work.updates):
            start = time.perf_counter()
            run.optimizer_step()
            seconds.append(time.perf_counter() - start)
    kernel = sent_bytes() - before
    run.process_group.all_gather_object("done")
    run.close()
    gradient = gradient_bytes(sent)
    others = sent.total() - gradient
    return Seen(weights, seconds, gradient / work.updates, others, kernel / work.updates)


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(asdict(measure(Work(**json.loads(sys.argv[1]))))), flush=True)
    destroy_process_group()
