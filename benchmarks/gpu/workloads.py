"""Models and data of the parts that train."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import torch
from accelerate.state import AcceleratorState
from transformers import PreTrainedModel

from benchmarks import gpu_files
from benchmarks.gpu.part import Setup
from benchmarks.methods import LABELS, bert
from d90.tasks import Task, load_task
from d90.tasks.kinds import Classification
from d90.tasks.tokens import TokenizedSplit
from d90.training.data import TokenizedTask


@dataclass(frozen=True)
class Shape:
    """The shape of a BERT with random weights, and of its batches.

    Attributes:
        layers, width, heads, vocabulary, positions: of the model.
        batch: examples and tokens.
    """

    layers: int
    width: int
    heads: int
    vocabulary: int
    batch: tuple[int, int]
    positions: int = 512

    def model(self, device: str) -> PreTrainedModel:
        """The model, initialized on the device: a CPU takes seconds for it."""
        with torch.device(device):
            return bert(self.layers, self.width, self.heads, self.vocabulary, self.positions)


ROBERTA_BASE = Shape(12, 768, 12, 50_265, batch=(32, 128))
MINILM = Shape(6, 384, 12, 30_522, batch=(32, 64))
TINY = Shape(2, 16, 2, 64, batch=(2, 8), positions=16)


def random_data(shape: Shape, rows: int, length: int) -> TokenizedTask:
    """Random tokens and labels: `rows` training examples of `length` tokens, without padding."""

    def split(count: int, seed: int) -> TokenizedSplit:
        generator = torch.Generator().manual_seed(seed)
        ids = torch.randint(
            shape.vocabulary, (count * length,), generator=generator, dtype=torch.int32
        )
        labels = torch.arange(count) % LABELS
        return TokenizedSplit({"input_ids": ids}, torch.arange(count + 1) * length, labels)

    return TokenizedTask(
        kind=Classification(("no", "yes")),
        metric="accuracy",
        train=split(rows, 0),
        train_eval_subset=split(LABELS, 1),
        evaluation={"validation": split(LABELS, 2)},
        padding={"input_ids": 0},
        padding_side="right",
    )


@contextmanager
def prepared(setup: Setup) -> Iterator[tuple[str, Task]]:
    """A model's folder and a task: MiniLM-L6 and MRPC, or tiny ones in a rehearsal."""
    if not setup.is_rehearsal:
        yield str(setup.folder / gpu_files.MODEL), load_task(setup.folder / gpu_files.TASKS[0])
        return
    from tests.helpers.tiny import toy_task, write_tiny_model

    with TemporaryDirectory() as folder:
        write_tiny_model(Path(folder) / "model")
        yield str(Path(folder) / "model"), toy_task()


@contextmanager
def training() -> Iterator[None]:
    """Train inside, in any precision: accelerate would keep the first one of the process.

    A rehearsal trains with the kernels of the CPU. Those of the GPU take seconds a step in Triton's
    interpreter, and other parts rehearse them.
    """
    AcceleratorState._reset_state(reset_partial_state=True)
    with patch.dict("os.environ", {"D90_KERNEL": "auto"}):
        yield
    AcceleratorState._reset_state(reset_partial_state=True)
