"""Dynamic masking: which tokens of a block are masked, a function of (seed, position) alone.

Of the n tokens of a block that are not special, exactly 15 n / 100, rounded to an integer, are
chosen; all subsets of this size are equally likely. Of the chosen tokens, 80% become the mask
token, 10% a random token that is not special, and 10% stay (Devlin et al. 2019, Section 3.1), with
a new draw each time the block is used (Liu et al. 2019, Section 4.1). The 15% holds in each block,
the other percentages in expectation.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from d90.rng import philox

PERCENT = 15
"""Percentage of the tokens that are chosen."""

OUTCOMES, HIDDEN, REPLACED = 10, 8, 9
"""Ten equally likely outcomes: 0..7 mask a chosen token, 8 replaces it, 9 leaves it unchanged."""

VALIDATION_SEED = 0

# Blocks of the data stream that no epoch's shuffle reaches: two words per token.
_TRAINING, _VALIDATION = 2**42, 2**43


@dataclass(frozen=True)
class MaskedBatch:
    """Masked blocks.

    Attributes:
        inputs: token ids, shape (blocks, length).
        chosen: mask of the positions that count in the loss, same shape.
        targets: the original tokens at these positions, shape (chosen tokens,), row by row.
    """

    inputs: Tensor
    chosen: Tensor
    targets: Tensor

    def split_sequences(self, length: int) -> MaskedBatch:
        """The same tokens as independent sequences of `length` tokens.

        `length` divides that of the blocks. The targets keep their order.
        """
        return MaskedBatch(
            self.inputs.reshape(-1, length), self.chosen.reshape(-1, length), self.targets
        )

    def split(self, rows: int) -> list[MaskedBatch]:
        """Batches of `rows` blocks."""
        parts = zip(self.inputs.split(rows), self.chosen.split(rows), strict=True)
        targets = self.targets.split([int(part.sum()) for part in self.chosen.split(rows)])
        return [MaskedBatch(*part, tokens) for part, tokens in zip(parts, targets, strict=True)]


class MaskingCollator:
    """Masks the blocks of one vocabulary.

    Args:
        size: vocabulary size.
        mask: the mask token.
        special: tokens that are neither chosen nor used as replacements, including the mask token.
        device: where blocks are masked; the result is the same on every device.
    """

    def __init__(
        self, size: int, mask: int, special: Iterable[int], device: torch.device | str = "cpu"
    ) -> None:
        self._mask = mask
        ordinary = torch.ones(size, dtype=torch.bool)
        ordinary[[*special, mask]] = False
        self._is_ordinary = ordinary.to(device)
        self._ordinary = ordinary.nonzero().flatten().to(device)
        self._device = device

    def training(self, blocks: Tensor, *, seed: int, first: int) -> MaskedBatch:
        """Mask training blocks; `first` is the index of the first one in the order of the run."""
        return self._masked(blocks, seed, _TRAINING + first)

    def validation(self, blocks: Tensor, *, first: int) -> MaskedBatch:
        """Mask validation blocks from index `first` on, always at the same positions."""
        return self._masked(blocks, VALIDATION_SEED, _VALIDATION + first)

    def _masked(self, blocks: Tensor, seed: int, first: int) -> MaskedBatch:
        blocks = blocks.to(self._device)
        count, length = blocks.shape
        visits = torch.arange(first, first + count, device=self._device)
        words = philox.words(
            seed, philox.Stream.DATA, 0, 2 * length, block=visits, device=self._device
        )
        chosen = _choose(words[:, :length], self._is_ordinary[blocks])
        targets = blocks[chosen]
        inputs = blocks.clone()
        inputs[chosen] = self._replace(targets, words[:, length:][chosen])
        return MaskedBatch(inputs, chosen, targets)

    def _replace(self, tokens: Tensor, words: Tensor) -> Tensor:
        """The replacements of chosen tokens, from one random word each."""
        size = len(self._ordinary)
        draw = philox.to_integers(words, OUTCOMES * size)
        outcome, other = draw // size, self._ordinary[draw % size]
        other = torch.where(outcome < REPLACED, other, tokens)
        return torch.where(outcome < HIDDEN, self._mask, other)


def _choose(words: Tensor, eligible: Tensor) -> Tensor:
    """In each row, the eligible positions with the smallest words: 15% of them."""
    counts = ((PERCENT * eligible.sum(1) + 50) // 100).clamp_min(1)
    # The position in the low bits breaks ties; ineligible positions sort last.
    keys = (words << 16) | torch.arange(words.shape[1], device=words.device)
    keys = torch.where(eligible, keys, 2**48)
    last = keys.sort(1).values.gather(1, counts[:, None] - 1)
    return (keys <= last) & eligible
