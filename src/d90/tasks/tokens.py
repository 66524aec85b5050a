"""Token sequences of examples: ragged in memory, padded batch by batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from d90.errors import D90Error
from d90.tasks.task import Split

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_CHUNK = 1000


@dataclass(frozen=True)
class TokenizedSplit:
    """A tokenized split, flat: a million examples are a few tensors, not a million lists.

    Attributes:
        columns: for each input of the model (`input_ids`, ...), the concatenated values of all
            examples.
        offsets: start of each example, then the end of the last one, shape (examples + 1,).
        labels: what a prediction is compared with, in 64 bits, shape (examples,).
    """

    columns: Mapping[str, Tensor]
    offsets: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def lengths(self) -> Tensor:
        """Tokens of each example, shape (examples,)."""
        return self.offsets.diff()

    def ends(self, counts: Tensor) -> list[list[int]]:
        """The last tokens of each example, as many as `counts` says, shape (examples,)."""
        flat, ends = self.columns["input_ids"], self.offsets[1:]
        pairs = zip((ends - counts).tolist(), ends.tolist(), strict=True)
        return [flat[start:end].tolist() for start, end in pairs]

    def subset(self, rows: Sequence[int]) -> TokenizedSplit:
        """The given rows, in the given order."""
        pieces = [slice(int(self.offsets[row]), int(self.offsets[row + 1])) for row in rows]
        columns = {
            name: torch.cat([flat[piece] for piece in pieces])
            for name, flat in self.columns.items()
        }
        return TokenizedSplit(columns, _offsets(self.lengths[list(rows)]), self.labels[list(rows)])


class PaddingSpec(Protocol):
    """How a model's inputs are padded: the `padding` value of each column, and `padding_side`."""

    @property
    def padding(self) -> Mapping[str, int]: ...

    @property
    def padding_side(self) -> str: ...


def padding_values(tokenizer: Any) -> Mapping[str, int]:
    """The padding value of each column of `encode_texts`."""
    return {"input_ids": tokenizer.pad_token_id, "token_type_ids": tokenizer.pad_token_type_id}


def encode_texts(
    tokenizer: PreTrainedTokenizerBase,
    split: Split,
    name: str,
    max_length: int,
    *,
    label_dtype: torch.dtype = torch.int64,
) -> TokenizedSplit:
    """Tokenize the text, or the pair of texts, of each example.

    Args:
        tokenizer: with a padding token.
        split: the examples.
        name: of the split, in errors.
        max_length: maximum tokens per example; longer ones are truncated.
        label_dtype: of 64 bits.

    Raises:
        D90Error: an example without tokens.
    """
    pieces: dict[str, list[Tensor]] = {}
    lengths: list[int] = []
    for start in range(0, len(split), _CHUNK):
        texts, *pairs = map(list, zip(*split.texts[start : start + _CHUNK], strict=True))
        encoded = tokenizer(
            texts,
            pairs[0] if pairs else None,
            truncation=True,
            max_length=max_length,
            split_special_tokens=True,
            return_special_tokens_mask=True,
        )
        lengths += [len(ids) for ids in encoded["input_ids"]]
        flat = {
            key: torch.tensor([value for row in rows for value in row], dtype=torch.int32)
            for key, rows in encoded.items()
            if key != "attention_mask"
        }
        mask_special_tokens(tokenizer, flat["input_ids"], flat.pop("special_tokens_mask"))
        # Sorted: a set's order differs between processes, and the digest depends on the order.
        for key in sorted(flat):
            pieces.setdefault(key, []).append(flat[key])
    if 0 in lengths:
        raise D90Error(f"split '{name}', row {lengths.index(0)}: its text has no token.")
    return TokenizedSplit(
        columns={key: torch.cat(parts) for key, parts in pieces.items()},
        offsets=_offsets(torch.tensor(lengths)),
        labels=torch.tensor(list(split.labels), dtype=label_dtype),
    )


def encode_pieces(pieces: Sequence[Sequence[int]], labels: Sequence[int]) -> TokenizedSplit:
    """A split of examples that are tokens already."""
    flat = torch.tensor([token for piece in pieces for token in piece], dtype=torch.int32)
    lengths = torch.tensor([len(piece) for piece in pieces])
    return TokenizedSplit({"input_ids": flat}, _offsets(lengths), torch.tensor(list(labels)))


def mask_special_tokens(tokenizer: PreTrainedTokenizerBase, ids: Tensor, added: Tensor) -> None:
    """Replace, in place, special tokens that occur in the text itself by the unknown token.

    A text may quote `</s>`, but T5 and BART pool at this token and require the same number of
    them in every example of a batch. `split_special_tokens` splits such words for most
    tokenizers, but not for Unigram ones such as T5's.
    """
    unknown = tokenizer.unk_token_id
    if isinstance(unknown, int):
        special = torch.tensor(tokenizer.all_special_ids, dtype=ids.dtype)
        ids[torch.isin(ids, special) & (added == 0)] = unknown


def _offsets(lengths: Tensor) -> Tensor:
    return torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])


def collate(
    task: PaddingSpec, split: TokenizedSplit, rows: Sequence[int], device: torch.device
) -> tuple[dict[str, Tensor], Tensor]:
    """The model's inputs for these rows, padded to the longest of them, and their labels.

    They are views of one tensor, which is copied to a GPU without waiting for it.

    Returns:
        Tensors of shape (rows, longest), and the labels of shape (rows,).
    """
    index, offsets = np.asarray(rows), split.offsets.numpy()
    starts = offsets[index]
    lengths = offsets[index + 1] - starts
    count, longest = len(index), int(lengths.max())
    first = longest - lengths if task.padding_side == "left" else np.zeros_like(lengths)
    place = np.arange(longest) - first[:, None]
    is_token = (place >= 0) & (place < lengths[:, None])
    source = (starts[:, None] + place)[is_token]
    names = [*split.columns, "attention_mask"]
    packed = torch.empty(
        (len(names) * longest + 1) * count, dtype=torch.int64, pin_memory=device.type == "cuda"
    )
    values = packed.numpy()
    padded = values[:-count].reshape(len(names), count, longest)
    for block, (name, flat) in zip(padded[:-1], split.columns.items(), strict=True):
        block.fill(task.padding[name])
        block[is_token] = flat.numpy()[source]
    padded[-1] = is_token
    values[-count:] = split.labels.numpy()[index].view(np.int64)
    packed = packed.to(device, non_blocking=True)
    inputs = packed[:-count].view(len(names), count, longest).unbind()
    return dict(zip(names, inputs, strict=True)), packed[-count:].view(split.labels.dtype)
