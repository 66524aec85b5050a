"""The tokenizer and the token files of a run: made once, before the first update."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from d90.errors import D90Error
from d90.pretraining.corpus import documents
from d90.pretraining.dataset import Corpus, is_validation, write_tokens
from d90.pretraining.model_sizes import SPARE_POSITIONS
from d90.pretraining.plan import PretrainJob, file_digest
from d90.pretraining.tokenizer import (
    FILES,
    encoder,
    load_tokenizer,
    save_tokenizer,
    train_tokenizer,
    vocabulary,
)

OnText = Callable[[str, int, int], None]
"""Told what is being done, the documents read and their bytes."""


def prepare(job: PretrainJob, folder: Path, on_text: OnText) -> Corpus:
    """Write the tokenizer and the corpus as tokens, and say what was found.

    Raises:
        D90Error: texts that cannot be read, or none at all.
    """
    tokenizer = _tokenizer(job, on_text)
    save_tokenizer(tokenizer, folder, job.fields["max_position_embeddings"] - SPARE_POSITIONS)
    corpus = write_tokens(
        documents(job.sources, job.max_documents),
        encoder(tokenizer),
        folder,
        end=vocabulary(tokenizer).end,
        validation_fraction=job.validation_fraction,
        tokenizer=file_digest(folder / FILES[0]),
        on_progress=lambda count, size: on_text("tokens", count, size),
    )
    corpus.save(folder)
    return corpus


def _tokenizer(job: PretrainJob, on_text: OnText) -> PreTrainedTokenizerBase:
    if job.tokenizer is not None:
        return load_tokenizer(job.tokenizer)
    count, size = 0, 0

    def training_texts() -> Iterator[str]:
        nonlocal count, size
        for document in documents(job.sources, job.max_documents):
            count, size = count + 1, size + len(document)
            if count % 1000 == 0:
                on_text("tokenizer", count, size)
            if not is_validation(document, job.validation_fraction):
                yield document

    found = train_tokenizer(training_texts(), job.fields["vocab_size"])
    if count == 0:
        raise D90Error("the corpus has no text: give files with some.")
    return found
