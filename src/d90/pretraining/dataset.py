"""The tokens of a corpus on disk, written once and memory-mapped in blocks.

A token file has the documents in order, each ended by `</s>`, as one flat array of uint16 (uint32
for more than 65,536 tokens). Memory does not grow with the corpus.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from d90.errors import D90Error
from d90.utils.files import atomic_path, atomic_write
from d90.utils.reading import check_fields, parse_json, read_text

CORPUS = "corpus.json"
PARTS = ("train", "validation")

_CHUNK = 1000


@dataclass(frozen=True)
class Corpus:
    """Statistics and digests of a corpus.

    Attributes:
        documents, validation_documents: number of documents of each split.
        tokens, validation_tokens: number of their tokens, including `</s>`.
        bytes: of all documents in UTF-8.
        digest: SHA-256 of all documents in order.
        vocabulary: number of tokens of the tokenizer.
        tokenizer: SHA-256 of the tokenizer's file.
    """

    documents: int
    validation_documents: int
    tokens: int
    validation_tokens: int
    bytes: int
    digest: str
    vocabulary: int
    tokenizer: str

    def save(self, folder: Path) -> None:
        """Write the file atomically: if it exists, all token files are complete."""
        atomic_write(folder / CORPUS, json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Corpus | None:
        """The saved corpus, or None if it is not complete yet."""
        file = folder / CORPUS
        if not file.exists():
            return None
        return cls(**check_fields(cls, parse_json(read_text(file, "corpus"), CORPUS), CORPUS))


def is_validation(document: str, fraction: float) -> bool:
    """Whether a document is for validation; copies of a document are in the same split."""
    return int.from_bytes(_digest(document)[:8], "big") < fraction * 2**64


def _digest(document: str) -> bytes:
    return hashlib.sha256(document.encode()).digest()


def token_file(folder: Path, part: str) -> Path:
    """The path of the token file of a split."""
    return folder / f"tokens-{part}.bin"


def token_dtype(vocabulary: int) -> np.dtype:
    """The dtype of a token file."""
    return np.dtype(np.uint16 if vocabulary <= 2**16 else np.uint32)


def write_tokens(
    documents: Iterable[str],
    encode: Tokenizer,
    folder: Path,
    *,
    end: int,
    validation_fraction: float,
    tokenizer: str,
    on_progress: Callable[[int, int], None] | None = None,
) -> Corpus:
    """Write the token files of a corpus.

    Args:
        documents: the corpus.
        encode: `d90.pretraining.tokenizer.encoder`.
        folder: of the token files.
        end: id of the token after each document.
        validation_fraction: fraction of the documents held out for validation.
        tokenizer: digest of the tokenizer.
        on_progress: called with the number of documents and bytes so far.
    """
    vocabulary = encode.get_vocab_size()
    dtype = token_dtype(vocabulary)
    counts, tokens, size = [0, 0], [0, 0], 0
    digest = hashlib.sha256()
    with ExitStack() as stack:
        partials = [stack.enter_context(atomic_path(token_file(folder, part))) for part in PARTS]
        files = [stack.enter_context(partial.open("wb")) for partial in partials]
        for chunk in _chunks(documents):
            encoded = encode.encode_batch_fast(chunk, add_special_tokens=False)
            for document, encoding in zip(chunk, encoded, strict=True):
                part = int(is_validation(document, validation_fraction))
                files[part].write(np.array([*encoding.ids, end], dtype).tobytes())
                counts[part] += 1
                tokens[part] += len(encoding.ids) + 1
                size += len(document.encode())
                digest.update(_digest(document))
            if on_progress is not None:
                on_progress(sum(counts), size)
    return Corpus(
        documents=counts[0],
        validation_documents=counts[1],
        tokens=tokens[0],
        validation_tokens=tokens[1],
        bytes=size,
        digest=digest.hexdigest(),
        vocabulary=vocabulary,
        tokenizer=tokenizer,
    )


def _chunks(documents: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(documents)
    while chunk := list(islice(rest, _CHUNK)):
        yield chunk


class TokenBlocks:
    """A token file as blocks of `length` tokens, none of them padding (FULL-SENTENCES).

    Block i is `<s>` followed by `length - 1` tokens of the file from i (length - 1) on, across
    document boundaries. The last block ends at the end of the file, and overlaps the block before
    it if the file does not divide evenly: no token is left out.

    Args:
        tokens: a token file, or any array of tokens.
        length: tokens per block.
        start: id of the token `<s>`.

    Raises:
        ValueError: fewer tokens than one block needs.
    """

    def __init__(self, tokens: np.ndarray, length: int, start: int) -> None:
        self._tokens, self._start, self._take = tokens, start, length - 1
        if len(tokens) < self._take:
            raise ValueError(f"{len(tokens)} tokens are fewer than a block of {length} takes")

    def __len__(self) -> int:
        return -(-len(self._tokens) // self._take)

    def rows(self, indices: Sequence[int]) -> Tensor:
        """The blocks with these indices: int64, shape (len(indices), length)."""
        last = len(self._tokens) - self._take
        starts = np.minimum(np.asarray(indices, np.int64) * self._take, last)
        tokens = self._tokens[starts[:, None] + np.arange(self._take)].astype(np.int64)
        return torch.nn.functional.pad(torch.from_numpy(tokens), (1, 0), value=self._start)


def open_blocks(
    folder: Path, part: str, corpus: Corpus, length: int, start: int, validation_fraction: float
) -> TokenBlocks:
    """The blocks of a split of the corpus.

    Raises:
        D90Error: too few tokens for one block; the token file is damaged.
    """
    count = corpus.tokens if part == PARTS[0] else corpus.validation_tokens
    if count < length - 1:
        which = "to train on" if part == PARTS[0] else "for validation"
        raise D90Error(
            f"the corpus has {count} tokens {which}, fewer than a block of {length}: give more "
            f"text, a smaller max_length, or another validation_fraction than "
            f"{validation_fraction:g}."
        )
    file, dtype = token_file(folder, part), token_dtype(corpus.vocabulary)
    if not file.is_file() or file.stat().st_size != count * dtype.itemsize:
        raise D90Error(f"'{file}' is damaged or missing: rerun the command in a new folder.")
    tokens = np.memmap(file, dtype, mode="r", shape=(count,))
    return TokenBlocks(tokens, length, start)
