"""A corpus with a little grammar in it, and a model that learns it in seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from d90.pretraining.plan import PretrainJob, plan_pretraining
from d90.pretraining.pretrain import pretrain
from d90.pretraining.summary import Summary
from d90.rng import philox

NOUNS = ["cat", "dog", "bird", "river", "moon", "house"]
VERBS = {"cat": "sleeps", "dog": "barks", "bird": "sings", "river": "flows", "moon": "shines"}

QUICK: dict[str, Any] = {
    "size": "nano",
    "vocab_size": 290,
    "validation_fraction": 0.1,
    "max_length": 16,
    "sequence_length_schedule": ((4, 3), (8, 6)),
    "batch_size": 4,
    "max_steps": 12,
    "checkpoints": (5,),
    "evaluate_every": 4,
    "max_eval_blocks": 8,
    "precision": "no",
}


def texts(count: int) -> list[str]:
    """Sentences in which the noun decides the verb."""
    drawn = philox.words(7, philox.Stream.DATA, 0, 8 * count).view(count, 8).tolist()
    found = []
    for number, words in enumerate(drawn):
        nouns = [NOUNS[word % len(NOUNS)] for word in words[: 1 + words[7] % 6]]
        clauses = [f"the {noun} {VERBS.get(noun, 'stands')}" for noun in nouns]
        found.append(f"{' and '.join(clauses)} at {number}")
    return found


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 200 documents."""
    file = tmp_path_factory.mktemp("corpus") / "some texts.txt"
    file.write_text("\n\n".join(texts(200)) + "\n")
    return file


Planner = Callable[..., PretrainJob]


@pytest.fixture
def quick(corpus: Path) -> Planner:
    """A run of twelve optimizer steps, with these options changed."""

    def make(**changes: Any) -> PretrainJob:
        return plan_pretraining([str(corpus)], **{**QUICK, **changes})

    return make


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> tuple[Path, Summary]:
    """The folder and summary of that run, never stopped."""
    folder = tmp_path_factory.mktemp("runs") / "a run"
    torch.set_num_threads(1)  # Before `one_thread`, which is for one test.
    return folder, pretrain(
        plan_pretraining([str(corpus)], **QUICK), folder, command="d90 pretrain"
    )
