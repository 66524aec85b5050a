"""Dynamic masking: which tokens of a block are hidden, as a function of (seed, place) alone.

Of the n tokens of a block that are not special, exactly 15 n / 100, to the nearest whole number,
are chosen, all sets of so many being equally likely. Of the chosen, 80% become the mask token, 10%
a random token that is not special, and 10% stay (Devlin et al. 2019, Section 3.1; drawn anew at
every visit, Liu et al. 2019, Section 4.1). Both numbers are over all chosen tokens in the long run;
the 15% holds in each block.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from d90.rng import philox

PER_CENT = 15
"""Percentage of the tokens that are chosen."""

OUTCOMES, HIDDEN, REPLACED = 10, 8, 9
"""Of ten equally likely outcomes 0..7 hide a chosen token, 8 replaces it and 9 keeps it."""

VALIDATION_SEED = 0

# Blocks of the data stream that no epoch's order reaches: two words a token, a block a visit.
_TRAINING, _VALIDATION = 2**42, 2**43


@dataclass(frozen=True)
class MaskedBatch:
    """Masked blocks.

    Attributes:
        inputs: what the model reads, shape (blocks, length).
        chosen: where its answers count, of the same shape.
        targets: the tokens that were there, shape (chosen tokens,), row by row.
    """

    inputs: Tensor
    chosen: Tensor
    targets: Tensor

    def split_sequences(self, length: int) -> MaskedBatch:
        """The same tokens as rows of `length`, each of which the model reads on its own.

        `length` divides that of the blocks. The targets stay in their order.
        """
        return MaskedBatch(
            self.inputs.reshape(-1, length), self.chosen.reshape(-1, length), self.targets
        )

    def split(self, rows: int) -> list[MaskedBatch]:
        """In batches of so many blocks."""
        parts = zip(self.inputs.split(rows), self.chosen.split(rows), strict=True)
        targets = self.targets.split([int(part.sum()) for part in self.chosen.split(rows)])
        return [MaskedBatch(*part, tokens) for part, tokens in zip(parts, targets, strict=True)]


class MaskingCollator:
    """Masks the blocks of one vocabulary.

    Args:
        size: tokens of the vocabulary.
        mask: the mask token.
        special: tokens that are neither chosen nor put in another's place, the mask among them.
        device: where blocks are masked. The result is the same on every device.
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
        """Mask training blocks, the first of which is number `first` in the run's order."""
        return self._masked(blocks, seed, _TRAINING + first)

    def validation(self, blocks: Tensor, *, first: int) -> MaskedBatch:
        """Mask validation blocks from index `first` on: always in the same places."""
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
        """What is put in the place of chosen tokens, one word each."""
        size = len(self._ordinary)
        draw = philox.to_integers(words, OUTCOMES * size)
        outcome, other = draw // size, self._ordinary[draw % size]
        other = torch.where(outcome < REPLACED, other, tokens)
        return torch.where(outcome < HIDDEN, self._mask, other)


def _choose(words: Tensor, eligible: Tensor) -> Tensor:
    """The eligible places with the smallest words, of each row as many as it has to give."""
    counts = ((PER_CENT * eligible.sum(1) + 50) // 100).clamp_min(1)
    # The place in the low bits breaks ties; the others come after every word.
    keys = (words << 16) | torch.arange(words.shape[1], device=words.device)
    keys = torch.where(eligible, keys, 2**48)
    last = keys.sort(1).values.gather(1, counts[:, None] - 1)
    return (keys <= last) & eligible
