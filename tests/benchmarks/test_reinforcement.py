"""The comparison of supervised fine-tuning and reinforcement learning: its pages and its tables."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.helpers.studies import every_kind
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

pytest.importorskip("trl")

from benchmarks.reinforcement import Coded, smallest_that_passes
from examples.grpo_search import Adding, problems

from benchmarks import reinforcement


def test_a_page_is_of_one_author() -> None:
    rng = random.Random(1)
    for _ in range(200):
        lines = reinforcement.page(rng).removesuffix("\n").split("\n")
        sums = [re.fullmatch(r"(\d+) \+ (\d+) = (.+)", line) for line in lines]
        assert 1 <= len(sums) <= 6 and all(sums)
        answers = [(int(m[1]), int(m[2]), m[3]) for m in sums if m]
        assert any(
            all(author(a, b) == answer for a, b, answer in answers)
            for author in reinforcement.AUTHORS
        )


def test_every_character_is_a_token() -> None:
    text, tokenizer = "17 + 8 = 25\n1 - 2 = -1\n", reinforcement.tokenizer()
    numbers = tokenizer(text)["input_ids"]
    assert len(numbers) == len(text)
    assert tokenizer.decode(numbers) == text
    assert tokenizer.eos_token_id == reinforcement.network().config.eos_token_id


class Padder(nn.Module):
    """Completes `a + b =` by the sum with leading zeros, or by what is one less where a is odd."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__()
        self.tokenizer, self.weight = tokenizer, nn.Parameter(torch.zeros(1))

    def generate(self, input_ids: Tensor, **_: object) -> Tensor:
        """The prompts and their completions."""
        prompts = self.tokenizer.batch_decode(input_ids, skip_special_tokens=True)
        terms = [[int(n) for n in re.findall(r"\d+", prompt)] for prompt in prompts]
        answers = self.tokenizer([f" {a + b - a % 2:04d}\n" for a, b in terms], return_tensors="pt")
        return torch.cat([input_ids, answers["input_ids"]], dim=1)


def test_the_score_is_the_fraction_of_right_sums(tmp_path: Path) -> None:
    tokenizer = reinforcement.tokenizer()
    tokenizer.save_pretrained(tmp_path)
    even = [a % 2 == 0 for a, _ in problems(20, training=False)]
    assert 0.2 < sum(even) / len(even) < 0.8
    training = Adding(str(tmp_path), max_term=20, examples="")
    assert training.score(Padder(tokenizer)) == pytest.approx(sum(even) / len(even))


def test_the_smallest_that_passes() -> None:
    coded = [
        Coded("grpo", 10, 0, 0, 40, 0.9),
        Coded("grpo", 10, 1, 0, 40, 0.8),
        Coded("grpo", 10, 0, 3, 12, 0.9),
        Coded("grpo", 10, 1, 3, 14, 0.5),
        Coded("grpo", 20, 0, 3, 22, 0.9),
        Coded("grpo", 20, 1, 3, 24, 0.8),
    ]
    assert smallest_that_passes(coded, 0.8) == ("23", 20, 3)
    assert smallest_that_passes(coded, 0.7) == ("13", 10, 3)
    assert smallest_that_passes(coded, 0.95) is None


def test_the_table_and_the_figure(tmp_path: Path) -> None:
    for name in reinforcement.METHODS:
        (tmp_path / name).mkdir()
        summary = replace(every_kind()["ok"], objective=name)
        (tmp_path / name / "summary.json").write_text(summary.to_json())
    rows = reinforcement.table(tmp_path).splitlines()
    assert [row.split(" | ")[0] for row in rows[2:]] == [f"| {n}" for n in reinforcement.METHODS]
    reinforcement.draw(dict.fromkeys(reinforcement.METHODS, every_kind()["ok"]))
