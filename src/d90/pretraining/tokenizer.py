"""Byte-level BPE as RoBERTa has it: trained on a corpus, or taken from another run."""

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
from d90.utils.files import atomic_write

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
"""Special tokens, in the order of their numbers from 0 on."""

LEAST_VOCABULARY = 256 + len(SPECIAL)
"""Every byte is a token, so that every text has tokens."""

SAMPLE = 500_000_000
"""Merges are learnt from the first so many characters of the corpus."""

FILES = ("tokenizer.json", "tokenizer_config.json")


@dataclass(frozen=True)
class Vocabulary:
    """What pre-training asks of a tokenizer.

    Attributes:
        size: number of tokens.
        start, end, pad, mask: numbers of the special tokens.
        special: numbers of all special tokens.
    """

    size: int
    start: int
    end: int
    pad: int
    mask: int
    special: tuple[int, ...]


def train_tokenizer(documents: Iterable[str], size: int) -> PreTrainedTokenizerBase:
    """Learn a byte-level BPE vocabulary (Radford et al. 2019) of at most `size` tokens.

    A corpus too small to have so many merges gives fewer.

    Raises:
        D90Error: a size below that of the bytes and special tokens alone.
    """
    if size < LEAST_VOCABULARY:
        raise D90Error(f"vocab_size {size}: at least {LEAST_VOCABULARY} is expected.")
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=2,
        special_tokens=[*SPECIAL],
        # Sorted: a set has another order in every process, and numbers would follow it.
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    learner.train_from_iterator(_sample(documents), trainer)
    learnt = json.loads(learner.to_str())["model"]
    merges: Any = [tuple(pair) for pair in learnt["merges"]]  # Annotated as texts of pairs.
    return RobertaTokenizer(vocab=learnt["vocab"], merges=merges)


def _sample(documents: Iterable[str]) -> Iterator[str]:
    left = SAMPLE
    for document in documents:
        if left <= 0:
            return
        left -= len(document)
        yield document


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer in the folder of another run or of a model.

    Raises:
        D90Error: there is none, or it lacks what masked language modeling needs.
    """
    if not (folder / FILES[0]).is_file():
        raise D90Error(f"tokenizer '{folder}': expected a folder with a {FILES[0]}.")
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # tokenizers raises bare Exceptions
        reason = single_line(error)[:200]
        raise D90Error(f"tokenizer '{folder}' cannot be loaded: {reason}.") from error
    lacking = [
        name
        for name in ("cls_token", "sep_token", "pad_token", "mask_token")
        if getattr(tokenizer, name) is None
    ]
    if lacking:
        raise D90Error(f"tokenizer '{folder}' has no {lacking[0]}: take that of another run.")
    return tokenizer


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path, max_length: int) -> None:
    """Write its files, each atomically; it truncates at `max_length` tokens."""
    tokenizer.model_max_length = max_length
    with TemporaryDirectory() as temporary:
        tokenizer.save_pretrained(temporary)
        for file in Path(temporary).iterdir():
            atomic_write(folder / file.name, file.read_bytes())


def vocabulary(tokenizer: PreTrainedTokenizerBase) -> Vocabulary:
    """The numbers of its tokens."""
    return Vocabulary(
        size=len(tokenizer),
        start=_number(tokenizer.cls_token_id),
        end=_number(tokenizer.sep_token_id),
        pad=_number(tokenizer.pad_token_id),
        mask=_number(tokenizer.mask_token_id),
        special=tuple(sorted(tokenizer.all_special_ids)),
    )


def _number(token: Any) -> int:
    return int(token)


def backend(tokenizer: PreTrainedTokenizerBase) -> Tokenizer:
    """The tokenizer of `tokenizers` inside."""
    inside: Any = tokenizer
    return inside.backend_tokenizer


def encoder(tokenizer: PreTrainedTokenizerBase) -> Tokenizer:
    """What turns texts into tokens and nothing else: `<mask>` in a text is six characters."""
    found = Tokenizer.from_str(backend(tokenizer).to_str())
    found.encode_special_tokens = True
    found.no_truncation()
    found.no_padding()
    return found
