"""Byte-level BPE as in RoBERTa: trained on a corpus, or loaded from another run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, RobertaTokenizer

from d90.errors import D90Error, single_line
from d90.models.loading import is_library_error
from d90.utils.files import atomic_write

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
"""Special tokens, in the order of their ids from 0 on."""

MIN_VOCABULARY = 256 + len(SPECIAL)
"""Every byte is a token, so every text has tokens."""

MAX_CHARACTERS = 500_000_000
"""Merges are learned from this many characters at the start of the corpus."""

FILES = ("tokenizer.json", "tokenizer_config.json")


@dataclass(frozen=True)
class Vocabulary:
    """The ids of the special tokens of a tokenizer.

    Attributes:
        size: number of tokens.
        start, end, pad, mask: ids of the special tokens.
        special: ids of all special tokens.
    """

    size: int
    start: int
    end: int
    pad: int
    mask: int
    special: tuple[int, ...]


def train_tokenizer(documents: Iterable[str], size: int) -> PreTrainedTokenizerBase:
    """Learn a byte-level BPE vocabulary (Radford et al. 2019) of at most `size` tokens.

    A small corpus may yield fewer tokens.

    Raises:
        D90Error: a size below the number of bytes and special tokens.
    """
    if size < MIN_VOCABULARY:
        raise D90Error(f"vocab_size {size}: at least {MIN_VOCABULARY} is expected.")
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=2,
        special_tokens=[*SPECIAL],
        # Sorted: a set's order differs between processes, and token ids would follow it.
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    learner.train_from_iterator(_sample(documents), trainer)
    model = json.loads(learner.to_str())["model"]
    merges: Any = [
        tuple(pair) for pair in model["merges"]
    ]  # transformers annotates them as strings.
    return RobertaTokenizer(vocab=model["vocab"], merges=merges)


def _sample(documents: Iterable[str]) -> Iterator[str]:
    remaining = MAX_CHARACTERS
    for document in documents:
        if remaining <= 0:
            return
        remaining -= len(document)
        yield document


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer in the folder of another run or of a model.

    Raises:
        D90Error: there is none, or it lacks a special token of masked language modeling.
    """
    if not (folder / FILES[0]).is_file():
        raise D90Error(f"tokenizer '{folder}': expected a folder with a {FILES[0]}.")
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        tokenizer("a word")  # Some mistakes in its files show only here.
    except BaseException as error:
        if not is_library_error(error):
            raise
        reason = single_line(error)[:200]
        raise D90Error(f"tokenizer '{folder}' cannot be loaded: {reason}.") from error
    missing = [
        name
        for name in ("cls_token", "sep_token", "pad_token", "mask_token")
        if getattr(tokenizer, name) is None
    ]
    if missing:
        raise D90Error(
            f"tokenizer '{folder}' has no {missing[0]}: use the tokenizer of another run."
        )
    return tokenizer


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path, max_length: int) -> None:
    """Write the files of a tokenizer, each atomically, and set its `model_max_length`."""
    tokenizer.model_max_length = max_length
    with TemporaryDirectory() as temporary:
        tokenizer.save_pretrained(temporary)
        for file in Path(temporary).iterdir():
            atomic_write(folder / file.name, file.read_bytes())


def vocabulary(tokenizer: PreTrainedTokenizerBase) -> Vocabulary:
    """The vocabulary of a tokenizer."""
    return Vocabulary(
        size=len(tokenizer),
        start=_token_id(tokenizer.cls_token_id),
        end=_token_id(tokenizer.sep_token_id),
        pad=_token_id(tokenizer.pad_token_id),
        mask=_token_id(tokenizer.mask_token_id),
        special=tuple(sorted(tokenizer.all_special_ids)),
    )


def _token_id(token: Any) -> int:
    return int(token)


def backend(tokenizer: PreTrainedTokenizerBase) -> Tokenizer:
    """The `tokenizers.Tokenizer` of a transformers tokenizer."""
    untyped: Any = tokenizer
    return untyped.backend_tokenizer


def encoder(tokenizer: PreTrainedTokenizerBase) -> Tokenizer:
    """The tokenizer without truncation, padding or special tokens: `<mask>` is six characters."""
    plain = Tokenizer.from_str(backend(tokenizer).to_str())
    plain.encode_special_tokens = True
    plain.no_truncation()
    plain.no_padding()
    return plain
