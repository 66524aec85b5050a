"""Token batches of examples: tokenized once, grouped by length, padded batch by batch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from d90.errors import D90Error
from d90.rng import philox
from d90.tasks import Split, Task, metrics_of
from d90.utils.digest import tensor_bytes

POOL = 32
"""Batches whose examples are sorted by length together: less padding, still well mixed."""

_CHUNK = 1000
_SUBSET_BLOCK = 2**40  # A block of the data stream that no epoch reaches.


@dataclass(frozen=True)
class TokenizedSplit:
    """A tokenized split, flat: a million examples are a few tensors, not a million lists.

    Attributes:
        columns: for each input of the model (`input_ids`, ...), the concatenated values of all
            examples.
        offsets: start of each example, then the end of the last one, shape (examples + 1,).
        labels: class indices, shape (examples,).
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


@dataclass(frozen=True)
class UnlabeledExamples:
    """Tokenized examples without a task; the labels are all 0.

    Attributes:
        split: the examples.
        padding, padding_side: as in `TokenizedTask`.
    """

    split: TokenizedSplit
    padding: Mapping[str, int]
    padding_side: str


@dataclass(frozen=True)
class TokenizedTask:
    """A tokenized task.

    Attributes:
        classes: names of the classes.
        metric: name of the metric that selects the best epoch.
        train: the training split.
        train_eval_subset: the fixed rows of the training split that the training metric is
            measured on.
        evaluation: the evaluation splits; the first is the primary one.
        padding: the padding value of each column.
        padding_side: `left` or `right`.
    """

    classes: tuple[str, ...]
    metric: str
    train: TokenizedSplit
    train_eval_subset: TokenizedSplit
    evaluation: Mapping[str, TokenizedSplit]
    padding: Mapping[str, int]
    padding_side: str

    @property
    def primary(self) -> str:
        """The name of the evaluation split that selects the best epoch."""
        return next(iter(self.evaluation))

    @property
    def metrics(self) -> tuple[str, ...]:
        """Every metric defined for this number of classes."""
        return metrics_of(len(self.classes))

    def digest(self) -> str:
        """SHA-256 of the tokenized examples."""
        digest = hashlib.sha256(repr((dict(self.padding), self.padding_side)).encode())
        for split in (self.train, self.train_eval_subset, *self.evaluation.values()):
            for name, values in {**split.columns, "lengths": split.lengths}.items():
                digest.update(f"{name} {values.dtype} {len(values)}\n".encode())
                digest.update(tensor_bytes(values))
        return digest.hexdigest()


def tokenize(
    task: Task,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int = 128,
    max_train_eval_samples: int | None = None,
) -> TokenizedTask:
    """Tokenize every split of a task.

    Args:
        task: the task.
        tokenizer: with a padding token.
        max_length: maximum tokens per example; longer ones are truncated.
        max_train_eval_samples: maximum rows of `train_eval_subset`, which are the same in every
            run; by default as many as the primary evaluation split has.

    Raises:
        D90Error: an example without tokens; a limit that leaves no rows.
    """
    least = tokenizer.num_special_tokens_to_add(pair=len(task.text_columns) > 1) + 1
    if max_length < least:
        raise D90Error(f"max_length {max_length}: at least {least}, for one token of text.")
    if max_train_eval_samples is not None and max_train_eval_samples < 1:
        raise D90Error(
            f"max_train_eval_samples {max_train_eval_samples}: a number above 0 is expected."
        )
    train = _encode(tokenizer, task.train, "train", max_length)
    limit = (
        len(task.evaluation[task.primary])
        if max_train_eval_samples is None
        else max_train_eval_samples
    )
    subset = philox.shuffle(0, len(train), block=_SUBSET_BLOCK)[:limit]
    return TokenizedTask(
        classes=task.labels,
        metric=task.metric,
        train=train,
        train_eval_subset=train.subset(subset.tolist()),
        evaluation={
            name: _encode(tokenizer, split, name, max_length)
            for name, split in task.evaluation.items()
        },
        padding=_padding(tokenizer),
        padding_side=tokenizer.padding_side,
    )


def tokenize_examples(
    examples: Sequence[tuple[str, ...]], tokenizer: PreTrainedTokenizerBase, *, max_length: int
) -> UnlabeledExamples:
    """Tokenize examples without labels, each a text or a pair of texts.

    Raises:
        D90Error: an example without tokens.
    """
    encoded = _encode(tokenizer, Split(examples, [0] * len(examples)), "input", max_length)
    return UnlabeledExamples(encoded, _padding(tokenizer), tokenizer.padding_side)


def _padding(tokenizer: Any) -> Mapping[str, int]:
    return {"input_ids": tokenizer.pad_token_id, "token_type_ids": tokenizer.pad_token_type_id}


def _encode(
    tokenizer: PreTrainedTokenizerBase, split: Split, name: str, max_length: int
) -> TokenizedSplit:
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
        labels=torch.tensor(list(split.labels)),
    )


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


def training_batches(lengths: Tensor, batch_size: int, *, seed: int, epoch: int) -> list[list[int]]:
    """The batches of one epoch: every row once, rows of similar length together.

    A shuffle is cut into pools of `POOL` batches; each pool is sorted by length and cut into
    batches; the batches are shuffled. Both shuffles are functions of (seed, epoch) alone.
    """
    order = philox.shuffle(seed, len(lengths), block=2 * epoch)
    batches = []
    for pool in order.split(POOL * batch_size):
        by_length = pool[torch.argsort(lengths[pool], stable=True)]
        batches += [batch.tolist() for batch in by_length.split(batch_size)]
    return [batches[i] for i in philox.shuffle(seed, len(batches), block=2 * epoch + 1).tolist()]


def evaluation_batches(lengths: Tensor, batch_size: int) -> list[list[int]]:
    """Batches with every row once, in order of length."""
    return [batch.tolist() for batch in torch.argsort(lengths, stable=True).split(batch_size)]


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
    values[-count:] = split.labels.numpy()[index]
    packed = packed.to(device, non_blocking=True)
    inputs = packed[:-count].view(len(names), count, longest).unbind()
    return dict(zip(names, inputs, strict=True)), packed[-count:]
