"""Token batches of examples: tokenized once, grouped by length, padded batch by batch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from d90.errors import D90Error
from d90.rng import philox
from d90.tasks import Kind, Split, Task, kind_of
from d90.tasks.tokens import TokenizedSplit, encode_texts, padding_values
from d90.utils.digest import tensor_bytes

POOL = 32
"""Batches whose examples are sorted by length together: less padding, still well mixed."""

_SUBSET_BLOCK = 2**40  # A block of the data stream that no epoch reaches.


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
        kind: what the task asks of the model.
        metric: name of the metric that selects the best epoch.
        train: the training split.
        train_eval_subset: the fixed rows of the training split that the training metric is
            measured on.
        evaluation: the evaluation splits; the first is the primary one.
        padding: the padding value of each column.
        padding_side: `left` or `right`.
    """

    kind: Kind
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
    kind: Kind | None = None,
    max_length: int = 128,
    max_train_eval_samples: int | None = None,
) -> TokenizedTask:
    """Tokenize every split of a task.

    Args:
        task: the task.
        tokenizer: with a padding token.
        kind: of the task, for a model (`Kind.on`); by default for any.
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
    kind = kind or kind_of(task)
    train = kind.encode(tokenizer, task.train, "train", max_length)
    kind = kind.from_train(train)
    limit = (
        len(task.evaluation[task.primary])
        if max_train_eval_samples is None
        else max_train_eval_samples
    )
    subset = philox.shuffle(0, len(train), block=_SUBSET_BLOCK)[:limit]
    return TokenizedTask(
        kind=kind,
        metric=task.metric,
        train=train,
        train_eval_subset=train.subset(subset.tolist()),
        evaluation={
            name: kind.encode(tokenizer, split, name, max_length)
            for name, split in task.evaluation.items()
        },
        padding=kind.padding(tokenizer),
        padding_side=tokenizer.padding_side,
    )


def tokenize_examples(
    examples: Sequence[tuple[str, ...]], tokenizer: PreTrainedTokenizerBase, *, max_length: int
) -> UnlabeledExamples:
    """Tokenize examples without labels, each a text or a pair of texts.

    Raises:
        D90Error: an example without tokens.
    """
    encoded = encode_texts(tokenizer, Split(examples, [0] * len(examples)), "input", max_length)
    return UnlabeledExamples(encoded, padding_values(tokenizer), tokenizer.padding_side)


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
