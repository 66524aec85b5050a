"""Prepare the tokenizer and the token files of a run, once, before its first optimizer step."""

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

OnDocuments = Callable[[str, int, int], None]
"""Called with the current stage, and the number of documents and bytes read."""


def prepare(job: PretrainJob, folder: Path, on_documents: OnDocuments) -> Corpus:
    """Write the tokenizer and the token files, and return the statistics of the corpus.

    Raises:
        D90Error: the corpus cannot be read, or is empty.
    """
    tokenizer = _tokenizer(job, on_documents)
    save_tokenizer(tokenizer, folder, job.fields["max_position_embeddings"] - SPARE_POSITIONS)
    corpus = write_tokens(
        documents(job.sources, job.max_documents),
        encoder(tokenizer),
        folder,
        end=vocabulary(tokenizer).end,
        validation_fraction=job.validation_fraction,
        tokenizer=file_digest(folder / FILES[0]),
        on_progress=lambda count, size: on_documents("tokens", count, size),
    )
    corpus.save(folder)
    return corpus


def _tokenizer(job: PretrainJob, on_documents: OnDocuments) -> PreTrainedTokenizerBase:
    if job.tokenizer is not None:
        return load_tokenizer(job.tokenizer)
    count, size = 0, 0

    def training_documents() -> Iterator[str]:
        nonlocal count, size
        for document in documents(job.sources, job.max_documents):
            count, size = count + 1, size + len(document)
            if count % 1000 == 0:
                on_documents("tokenizer", count, size)
            if not is_validation(document, job.validation_fraction):
                yield document

    tokenizer = train_tokenizer(training_documents(), job.fields["vocab_size"])
    if count == 0:
        raise D90Error("the corpus has no text: give files with some.")
    return tokenizer
