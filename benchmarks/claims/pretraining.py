"""Four RoBERTas pre-trained on the same text: the models of the claims about pre-training and size.

The text is that of `scripts/fetch_corpus.py`, as the folder `texts` beside the results. The sizes
and their first steps are those of docs/results/ladder, which leave the first plateau of masked
language modeling. Every model is saved every 250 steps, so that models can be compared at one
held-out loss. nano runs first: the others use its tokenizer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from d90.pretraining.checkpoints import checkpoint_name

CONFIGS = Path(__file__).parents[2] / "docs" / "results" / "ladder"
CHECKPOINT_EVERY = 250


@dataclass(frozen=True)
class Pretraining:
    """A `d90 pretrain`.

    Attributes:
        size: of the model, the name of its configuration.
        steps: optimizer steps.
        schedule: of the sequence length.
        learning_rate: peak.
    """

    size: str
    steps: int
    schedule: str
    learning_rate: float

    @property
    def name(self) -> str:
        """Of its folder and log."""
        return f"pretraining/{self.size}"

    @property
    def arguments(self) -> list[str]:
        """What follows `python -m`."""
        return [
            *("d90", "pretrain", "texts", f"--output={self.name}"),
            f"--model-config={CONFIGS / self.size}.toml",
            *("--batch-size=16", "--max-eval-blocks=128", f"--max-steps={self.steps}"),
            f"--learning-rate={self.learning_rate}",
            f"--sequence-length-schedule={self.schedule}",
            f"--checkpoint-every={CHECKPOINT_EVERY}",
            f"--eval-every={CHECKPOINT_EVERY}",
            *(() if self.size == FIRST else (f"--tokenizer=pretraining/{FIRST}",)),
        ]

    @property
    def result(self) -> str:
        """The last checkpoint."""
        return f"{self.name}/checkpoints/{checkpoint_name(self.steps)}"


FIRST = "nano"

MODELS: Mapping[str, Pretraining] = {
    run.size: run
    for run in (
        Pretraining("nano", 12_000, "8:1200,16:1600,32:2000,64:2400", 0.002),
        Pretraining("small", 4_500, "8:500,16:700,32:900,64:1100", 0.001),
        Pretraining("mini", 4_500, "8:500,16:700,32:900,64:1100", 0.001),
        Pretraining("micro", 6_500, "8:800,16:1200,32:1600,64:2000", 0.002),
    )
}
