"""A pretraining job, checked before anything is read or written."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from d90.errors import D90Error
from d90.pretraining.config import PretrainConfig, checkpoint_steps
from d90.pretraining.corpus import Source, open_corpus
from d90.pretraining.model import complete
from d90.pretraining.model_sizes import (
    Fields,
    default_learning_rate,
    get_model_size,
    read_fields,
)
from d90.pretraining.tokenizer import FILES, MIN_VOCABULARY, load_tokenizer

MAX_VOCABULARY = 2**31 - 1
DEFAULT_SIZE = "micro"
DEFAULT_STEPS = 10_000
NUM_EVALUATIONS = 50
"""Number of evaluations of a run, unless `evaluate_every` is given."""


@dataclass(frozen=True)
class PretrainJob:
    """A model to pretrain from scratch.

    Attributes:
        sources: the corpus.
        fields: fields of `RobertaConfig`; `vocab_size` is the maximum vocabulary size of the
            tokenizer.
        config: how it is trained.
        validation_fraction: fraction of the documents held out for validation.
        max_documents: maximum number of documents; None for all.
        tokenizer: folder of the tokenizer to use; None to train one on the corpus.
    """

    sources: tuple[Source, ...]
    fields: Fields
    config: PretrainConfig
    validation_fraction: float = 0.01
    max_documents: int | None = None
    tokenizer: Path | None = None

    def __post_init__(self) -> None:
        if not 0 < self.validation_fraction < 1:
            raise D90Error(
                f"validation_fraction {self.validation_fraction}: a fraction between 0 and 1 is "
                "expected."
            )
        if self.max_documents is not None and not 1 <= self.max_documents <= sys.maxsize:
            raise D90Error(f"max_documents {self.max_documents}: at least 1 is expected.")

    def to_dict(self) -> dict[str, Any]:
        """All that determines the result, by name, in JSON types."""
        return {
            "corpus": [source.identity for source in self.sources],
            "max_documents": self.max_documents,
            "validation_fraction": self.validation_fraction,
            "tokenizer": None if self.tokenizer is None else file_digest(self.tokenizer / FILES[0]),
            **self.fields,
            **self.config.to_dict(),
        }


def plan_pretraining(
    corpus: Sequence[str],
    *,
    size: str | None = None,
    model_config: Path | None = None,
    vocab_size: int | None = None,
    tokenizer: Path | None = None,
    validation_fraction: float = 0.01,
    max_documents: int | None = None,
    max_steps: int = DEFAULT_STEPS,
    learning_rate: float | None = None,
    checkpoint_every: int | None = None,
    checkpoints: tuple[int, ...] | None = None,
    evaluate_every: int | None = None,
    max_length: int = 128,
    **options: Any,
) -> PretrainJob:
    """A pretraining job from user options; the others get their defaults.

    Args:
        corpus: text files, folders and hub ids of data sets.
        size: a key of `d90.pretraining.model_sizes.SIZES`; micro if there is no `model_config`.
        model_config: file of `RobertaConfig` fields, instead of a size.
        vocab_size: vocabulary size of the tokenizer to train; overrides that of the size.
        tokenizer: folder of the tokenizer of another run, instead of training one.
        validation_fraction, max_documents: see `PretrainJob`.
        max_steps: optimizer steps.
        learning_rate: peak; by default `default_learning_rate` of the model's width.
        checkpoint_every, checkpoints: see `checkpoint_steps`.
        evaluate_every: optimizer steps between evaluations; by default a fiftieth of the steps.
        max_length: tokens per block.
        options: other fields of `PretrainConfig`.

    Raises:
        D90Error: an invalid option.
    """
    fields = _fields(size, model_config, max_length)
    fields = _with_vocabulary(fields, vocab_size, tokenizer, is_explicit=model_config is not None)
    fields = complete(fields, max_length)
    if learning_rate is None:
        learning_rate = default_learning_rate(fields["hidden_size"])
    if evaluate_every is None:
        evaluate_every = -(-max_steps // NUM_EVALUATIONS)
    config = PretrainConfig(
        max_steps=max_steps,
        learning_rate=learning_rate,
        checkpoints=checkpoint_steps(max_steps, every=checkpoint_every, listed=checkpoints),
        evaluate_every=evaluate_every,
        max_length=max_length,
        **options,
    )
    sources = open_corpus(corpus)
    return PretrainJob(sources, fields, config, validation_fraction, max_documents, tokenizer)


def _fields(size: str | None, model_config: Path | None, max_length: int) -> Fields:
    if model_config is None:
        return get_model_size(DEFAULT_SIZE if size is None else size).fields(max_length)
    if size is not None:
        raise D90Error("size and model_config: give one of them.")
    return read_fields(model_config)


def _with_vocabulary(
    fields: Fields, vocab_size: int | None, tokenizer: Path | None, *, is_explicit: bool
) -> Fields:
    """The fields with the vocabulary size; `is_explicit` if theirs is not a default."""
    if tokenizer is None:
        size = fields.get("vocab_size") if vocab_size is None else vocab_size
        if isinstance(size, int) and not MIN_VOCABULARY <= size <= MAX_VOCABULARY:
            raise D90Error(
                f"vocab_size {size}: at least {MIN_VOCABULARY} (and at most 2^31 - 1) is expected."
            )
        return fields if vocab_size is None else {**fields, "vocab_size": vocab_size}
    if vocab_size is not None:
        raise D90Error("vocab_size and tokenizer: give one of them.")
    size = len(load_tokenizer(tokenizer))
    if is_explicit and fields.get("vocab_size", size) != size:
        raise D90Error(
            f"the model config has vocab_size {fields['vocab_size']} and the tokenizer in "
            f"'{tokenizer}' has {size} tokens: leave vocab_size out."
        )
    return {**fields, "vocab_size": size}


def file_digest(file: Path) -> str:
    """SHA-256 of a file's bytes."""
    return hashlib.sha256(file.read_bytes()).hexdigest()
