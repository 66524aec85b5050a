"""Token files and their blocks: nothing lost, the order kept, validation documents apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from d90.errors import D90Error
from d90.pretraining.dataset import (
    Corpus,
    TokenBlocks,
    is_validation,
    open_blocks,
    token_dtype,
    token_file,
    write_tokens,
)
from d90.pretraining.tokenizer import encoder, train_tokenizer

from .conftest import texts

END = 2


@pytest.fixture(scope="module")
def encode() -> Tokenizer:
    return encoder(train_tokenizer(texts(50), 280))


def written(folder: Path, encode: Tokenizer, share: float = 0.2, count: int = 150) -> Corpus:
    return write_tokens(
        iter(texts(count)), encode, folder, end=END, validation_fraction=share, tokenizer="digest"
    )


def test_packing_by_hand() -> None:
    blocks = TokenBlocks(np.arange(10, 20, dtype=np.uint16), 5, start=0)
    assert len(blocks) == 3
    assert blocks.rows([0, 1, 2]).tolist() == [
        [0, 10, 11, 12, 13],
        [0, 14, 15, 16, 17],
        [0, 16, 17, 18, 19],
    ]
    assert blocks.rows([1]).tolist() == [[0, 14, 15, 16, 17]]
    assert len(TokenBlocks(np.arange(8), 5, start=0)) == 2
    with pytest.raises(ValueError, match="3 tokens are fewer"):
        TokenBlocks(np.arange(3), 5, start=0)


def documents_in(folder: Path, part: str, encode: Tokenizer) -> list[str]:
    tokens = np.fromfile(token_file(folder, part), np.uint16)
    ends = np.flatnonzero(tokens == END)
    assert ends[-1] == len(tokens) - 1
    starts = [0, *(ends[:-1] + 1)]
    return [encode.decode(tokens[a:b].tolist()) for a, b in zip(starts, ends, strict=True)]


def test_every_document_is_in_one_file_and_in_order(tmp_path: Path, encode: Tokenizer) -> None:
    corpus = written(tmp_path, encode)
    train, validation = (documents_in(tmp_path, part, encode) for part in ("train", "validation"))
    assert train == [text for text in texts(150) if not is_validation(text, 0.2)]
    assert validation == [text for text in texts(150) if is_validation(text, 0.2)]
    assert (corpus.documents, corpus.validation_documents) == (len(train), len(validation))
    assert 15 <= len(validation) <= 45
    assert corpus.bytes == sum(len(text) for text in texts(150))
    sizes = [token_file(tmp_path, part).stat().st_size for part in ("train", "validation")]
    assert [2 * corpus.tokens, 2 * corpus.validation_tokens] == sizes


def test_a_larger_share_holds_the_same_documents_and_more() -> None:
    small, large = ({t for t in texts(200) if is_validation(t, s)} for s in (0.1, 0.3))
    assert small < large


def test_the_digest_is_of_the_texts(tmp_path: Path, encode: Tokenizer) -> None:
    first, second = written(tmp_path, encode), written(tmp_path, encode, share=0.5)
    assert first.digest == second.digest
    assert first.digest != written(tmp_path, encode, count=149).digest


def test_a_corpus_is_complete_or_not_there(tmp_path: Path, encode: Tokenizer) -> None:
    assert Corpus.load(tmp_path) is None
    corpus = written(tmp_path, encode)
    corpus.save(tmp_path)
    assert Corpus.load(tmp_path) == corpus
    assert not list(tmp_path.glob("*.partial"))


def test_types_and_too_little_text(tmp_path: Path, encode: Tokenizer) -> None:
    assert (token_dtype(65_536), token_dtype(65_537)) == (np.uint16, np.uint32)
    corpus = written(tmp_path, encode, share=1e-9)
    assert corpus.validation_tokens == 0
    with pytest.raises(D90Error, match="0 tokens for validation, fewer than a block of 16"):
        open_blocks(tmp_path, "validation", corpus, 16, 0, 1e-9)
    assert len(open_blocks(tmp_path, "train", corpus, 16, 0, 1e-9)) > 100
