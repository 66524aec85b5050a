"""Masks: exact counts, known shares, and a function of seed and place alone."""

from __future__ import annotations

import pytest
import torch

from d90.pretraining.masking import MaskingCollator
from d90.rng import philox

SIZE, MASK, SPECIAL = 105, 4, (0, 1, 2, 3, 4)
ROWS, LENGTH = 1000, 64


@pytest.fixture(scope="module")
def blocks() -> torch.Tensor:
    words = philox.words(5, philox.Stream.DATA, 0, ROWS * LENGTH)
    found = (5 + philox.to_integers(words, SIZE - 5)).view(ROWS, LENGTH)
    found[:, 0] = 0
    found[words.view(ROWS, LENGTH) % 16 == 0] = 2
    return found


@pytest.fixture(scope="module")
def masker() -> MaskingCollator:
    return MaskingCollator(SIZE, MASK, SPECIAL)


def test_fifteen_per_cent_of_each_block(blocks: torch.Tensor, masker: MaskingCollator) -> None:
    masked = masker.training(blocks, seed=1, first=0)
    ordinary = (blocks >= 5).sum(1)
    assert masked.chosen.sum(1).tolist() == [round(0.15 * n + 1e-9) for n in ordinary.tolist()]
    assert not masked.chosen[blocks < 5].any()
    assert torch.equal(masked.targets, blocks[masked.chosen])
    assert torch.equal(masked.inputs[~masked.chosen], blocks[~masked.chosen])


def test_of_a_few_tokens_one_is_chosen(masker: MaskingCollator) -> None:
    for tokens, chosen in ((1, 1), (9, 1), (10, 2), (13, 2), (17, 3)):
        block = torch.tensor([[0, *range(5, 5 + tokens), 2]])
        assert int(masker.training(block, seed=0, first=0).chosen.sum()) == chosen


def test_eighty_ten_ten(blocks: torch.Tensor, masker: MaskingCollator) -> None:
    masked = masker.training(blocks, seed=2, first=0)
    put, there = masked.inputs[masked.chosen], masked.targets
    hidden, kept = put == MASK, put == there
    other = put[~hidden & ~kept]
    n = len(there)
    # One replacement in a hundred is the token that was there.
    for count, share in ((hidden, 0.8), (kept, 0.101), (other >= 5, 0.099)):
        assert abs(int(count.sum()) - share * n) < 4 * (n * share * (1 - share)) ** 0.5
    assert other.min() >= 5 and other.max() < SIZE
    assert len(other.unique()) == SIZE - 5


def test_every_place_is_as_likely(masker: MaskingCollator) -> None:
    block = torch.arange(5, 45).expand(4000, 40)
    share = masker.training(block, seed=3, first=0).chosen.double().mean(0)
    assert (share - 0.15).abs().max() < 5 * (0.15 * 0.85 / 4000) ** 0.5


def test_a_mask_is_a_function_of_seed_and_visit(
    blocks: torch.Tensor, masker: MaskingCollator
) -> None:
    torch.manual_seed(1)
    whole = masker.training(blocks[:6], seed=4, first=10)
    torch.manual_seed(2)
    parts = [masker.training(blocks[i : i + 2], seed=4, first=10 + i) for i in (0, 2, 4)]
    assert torch.equal(whole.inputs, torch.cat([part.inputs for part in parts]))
    assert torch.equal(whole.targets, torch.cat([part.targets for part in parts]))
    for seed, first in ((5, 10), (4, 16)):
        other = masker.training(blocks[:6], seed=seed, first=first)
        assert not torch.equal(whole.chosen, other.chosen)


def test_masks_change_at_every_visit_but_not_in_validation(
    blocks: torch.Tensor, masker: MaskingCollator
) -> None:
    same = blocks[:1].expand(50, LENGTH)
    assert len(masker.training(same, seed=0, first=0).chosen.unique(dim=0)) == 50
    first, second = masker.validation(blocks[:3], first=0), masker.validation(blocks[1:3], first=1)
    assert torch.equal(first.inputs[1:], second.inputs)
    assert not torch.equal(first.inputs, masker.training(blocks[:3], seed=0, first=0).inputs)


def test_batches(blocks: torch.Tensor, masker: MaskingCollator) -> None:
    whole = masker.training(blocks[:10], seed=1, first=0)
    parts = whole.split(4)
    assert [len(part.inputs) for part in parts] == [4, 4, 2]
    assert torch.equal(torch.cat([part.targets for part in parts]), whole.targets)
    assert all(len(part.targets) == int(part.chosen.sum()) for part in parts)


def test_short_sequences_are_the_same_tokens_in_order(
    blocks: torch.Tensor, masker: MaskingCollator
) -> None:
    whole = masker.training(blocks[:3], seed=1, first=0)
    sequences = whole.split_sequences(16)
    assert sequences.inputs.shape == sequences.chosen.shape == (12, 16)
    assert torch.equal(sequences.inputs[5], whole.inputs[1, 16:32])
    assert torch.equal(blocks[:3].reshape(12, 16)[sequences.chosen], sequences.targets)
