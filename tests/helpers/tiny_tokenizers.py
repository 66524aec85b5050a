"""A tokenizer with a tiny vocabulary for each model family, with its class and special tokens."""

from __future__ import annotations

from collections.abc import Callable
from string import ascii_lowercase

from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    AlbertTokenizer,
    BertTokenizer,
    GPT2Tokenizer,
    LlamaTokenizer,
    PreTrainedTokenizerBase,
    RobertaTokenizer,
    T5Tokenizer,
    XLMRobertaTokenizer,
    XLNetTokenizer,
)

WORDS = ("good", "bad", "word", "words", "then", "more")
LETTERS = (*ascii_lowercase, *",.<>/[]|")


def _numbered(*tokens: str) -> dict[str, int]:
    return {token: number for number, token in enumerate(tokens)}


def _word_pieces() -> dict[str, int]:
    special = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    return _numbered(*special, *WORDS, *LETTERS, *(f"##{letter}" for letter in LETTERS))


def _bytes(*special: str) -> dict[str, int]:
    return _numbered(*special, *sorted(ByteLevel.alphabet()))


def _sentence_pieces(*special: str) -> list[tuple[str, float]]:
    pieces = {"▁": -2.0, **{f"▁{word}": -3.0 for word in WORDS}}
    return [*((token, 0.0) for token in special), *pieces.items(), *((c, -6.0) for c in LETTERS)]


def _byte_fallback() -> dict[str, int]:
    hexadecimal = (f"<0x{byte:02X}>" for byte in range(256))
    return _numbered("<unk>", "<s>", "</s>", *hexadecimal, "▁", *LETTERS)


def _masked(*special: str) -> list[tuple[str, float]]:
    return [*_sentence_pieces(*special), ("<mask>", 0.0)]


TOKENIZERS: dict[str, Callable[[], PreTrainedTokenizerBase]] = {
    "Bert": lambda: BertTokenizer(vocab=_word_pieces()),
    "Electra": lambda: BertTokenizer(vocab=_word_pieces()),
    "Roberta": lambda: RobertaTokenizer(
        vocab=_bytes("<s>", "<pad>", "</s>", "<unk>", "<mask>"), merges=[]
    ),
    "Bart": lambda: RobertaTokenizer(
        vocab=_bytes("<s>", "<pad>", "</s>", "<unk>", "<mask>"), merges=[]
    ),
    "XLMRoberta": lambda: XLMRobertaTokenizer(vocab=_masked("<s>", "<pad>", "</s>", "<unk>")),
    "Albert": lambda: AlbertTokenizer(
        vocab=_sentence_pieces("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]")
    ),
    "XLNet": lambda: XLNetTokenizer(
        vocab=_sentence_pieces(
            "<unk>", "<s>", "</s>", "<cls>", "<sep>", "<pad>", "<mask>", "<eod>", "<eop>"
        )
    ),
    "T5": lambda: T5Tokenizer(vocab=_sentence_pieces("<pad>", "</s>", "<unk>"), extra_ids=3),
    "GPT2": lambda: GPT2Tokenizer(vocab=_bytes("<|endoftext|>"), merges=[]),
    "Llama": lambda: LlamaTokenizer(vocab=_byte_fallback(), merges=[]),
    "SmolLM2": lambda: GPT2Tokenizer(vocab=_bytes("<|endoftext|>"), merges=[]),
}
