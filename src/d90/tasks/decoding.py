"""Greedy decoding, and the answers in decoded texts."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import GenerationConfig

from d90.errors import D90Error

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

GSM8K = r"#### (-?[0-9.,]+)"
"""Where GSM8K has its answer (Cobbe et al. 2021, arXiv 2110.14168, the authors' `dataset.py`)."""

MAX_NEW_TOKENS = 256
"""Of a decoded text by default, as in lm-evaluation-harness."""

_NUMBER = re.compile(r"-?[0-9.,]+")


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """The pattern of an answer.

    Raises:
        D90Error: it is no regular expression.
    """
    try:
        return re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise D90Error(
            f"answer_pattern {pattern!r:.60} is no regular expression: {error}."
        ) from error


def find_answer(pattern: re.Pattern[str], text: str) -> str | None:
    """What the last match selects, by its first group if there is one; None for nothing.

    Of a number, commas and a final period are removed, as in the evaluations of GSM8K.

    >>> find_answer(re.compile(GSM8K), "#### 12 and then #### 1,250.")
    '1250'
    >>> find_answer(re.compile("yes|no"), "no, yes"), find_answer(re.compile("yes|no"), "maybe")
    ('yes', None)
    """
    last = deque(pattern.finditer(text), maxlen=1)
    selected = (last[0][1 if pattern.groups else 0] or "").strip() if last else ""
    if _NUMBER.fullmatch(selected):
        selected = selected.replace(",", "").removesuffix(".")
    return selected or None


@dataclass(frozen=True)
class Answers:
    """The answers in completions, and in what a model decodes in their place.

    Attributes:
        pattern: what selects an answer (`find_answer`).
        max_new_tokens: the most tokens that are decoded.
        tokenizer: of the model.
        longest: how many tokens the model takes, if known.
    """

    pattern: str
    max_new_tokens: int
    tokenizer: PreTrainedTokenizerBase | None = field(default=None, compare=False, repr=False)
    longest: int | None = None

    @classmethod
    def of(cls, pattern: str, max_new_tokens: str) -> Answers:
        """Raises: D90Error: no regular expression, or no such number."""
        compile_pattern(pattern)
        limit = max_new_tokens
        if not limit.isdecimal() or not 1 <= len(limit) <= 6 or int(limit) < 1:
            raise D90Error(f"max_new_tokens {limit:.20}: expected 1 to 999,999.")
        return cls(pattern, int(limit))

    def find(self, tokens: Sequence[int]) -> str | None:
        """The answer in a text of these tokens."""
        assert self.tokenizer is not None
        options = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
        text: Any = self.tokenizer.decode(list(tokens), **options)
        return find_answer(compile_pattern(self.pattern), text)

    def check(self, completion: str, target: Sequence[int], prompt: int, where: str) -> None:
        """Check that an example has an answer, which its tokens have too, and room for another.

        Args:
            completion, target: its text and tokens.
            prompt: how many tokens are before those that are decoded.
            where: how an error begins.

        Raises:
            D90Error: not so.
        """
        answer = find_answer(compile_pattern(self.pattern), completion)
        if answer is None:
            raise D90Error(
                f"{where}: answer_pattern {self.pattern!r:.60} has no match in its completion "
                f"{completion[-40:]!r}."
            )
        if self.tokenizer is not None and self.find(target) != answer:
            raise D90Error(
                f"{where}: its answer {answer!r:.40} is not in the tokens of its completion, by "
                "the tokenizer of this model: take another answer_pattern or model."
            )
        if self.longest is not None and prompt + self.max_new_tokens > self.longest:
            raise D90Error(
                f"{where}: {prompt:,} tokens of prompt and max_new_tokens "
                f"{self.max_new_tokens:,}, above the {self.longest:,} tokens that the model takes: "
                "lower max_new_tokens."
            )

    def are_right(
        self, model: nn.Module, prompts: Mapping[str, Tensor], completions: Sequence[Sequence[int]]
    ) -> list[bool]:
        """Whether the decoded answers are those of the completions.

        Args:
            model, prompts: as in `decode`.
            completions: the tokens of each.
        """
        ends = end_tokens(model, self.tokenizer)
        found = decode(model, prompts, max_new_tokens=self.max_new_tokens, ends=ends)
        pairs = zip(completions, found, strict=True)
        return [self.find(expected) == self.find(tokens) for expected, tokens in pairs]


def align_left(ids: Tensor, mask: Tensor, counts: Tensor) -> dict[str, Tensor]:
    """Inputs of a causal model without the last `counts` tokens of each row, padded on the left.

    Args:
        ids, mask: of shape (rows, positions), padded on either side.
        counts: shape (rows,).
    """
    lengths = mask.sum(1) - counts
    longest = int(lengths.max())
    place = torch.arange(longest, device=ids.device) - (longest - lengths)[:, None]
    source = (place + mask.argmax(1)[:, None]).clamp(min=0)
    return {"input_ids": ids.gather(1, source), "attention_mask": (place >= 0).to(mask.dtype)}


def decode(
    model: Any, inputs: Mapping[str, Tensor], *, max_new_tokens: int, ends: Collection[int]
) -> list[list[int]]:
    """The most probable tokens, one after the other, after each prompt, to before an end token.

    The model's own `generate` decodes, with a cache of keys and values. What the checkpoint asks
    for in `generation_config` (sampling, beams, penalties, forced or suppressed tokens) is left
    out.

    Args:
        model: causal or encoder-decoder, of transformers.
        inputs: `input_ids` and `attention_mask`, for a causal model padded on the left.
        max_new_tokens: the most tokens of a row.
        ends: the tokens that end a row.
    """
    own, config = model.generation_config, model.config
    greedy = greedy_config(config, ends, max_new_tokens=max_new_tokens)
    # `generate` takes what is not set from the model's.
    model.generation_config = greedy
    try:
        tokens = model.generate(**inputs, generation_config=greedy, use_cache=True)
    finally:
        model.generation_config = own
    first = 1 if config.is_encoder_decoder else inputs["input_ids"].shape[1]
    return [_before(row, ends) for row in tokens[:, first:].tolist()]


def greedy_config(config: Any, ends: Collection[int], **options: Any) -> GenerationConfig:
    """Greedy decoding by a model of this configuration, to one of the end tokens."""
    return GenerationConfig(
        eos_token_id=list(ends) or None,
        pad_token_id=config.pad_token_id,
        bos_token_id=getattr(config, "bos_token_id", None),
        decoder_start_token_id=getattr(config, "decoder_start_token_id", None),
        **options,
    )


def end_tokens(model: nn.Module, tokenizer: Any) -> tuple[int, ...]:
    """The end-of-text token of the tokenizer and those of the model's `generation_config`."""
    config: Any = getattr(model, "generation_config", None)
    named = getattr(config, "eos_token_id", None)
    found = named if isinstance(named, list) else [named]
    ends = {tokenizer.eos_token_id, *found}
    return tuple(sorted(end for end in ends if isinstance(end, int)))


def _before(row: list[int], ends: Collection[int]) -> list[int]:
    return row[: next((i for i, token in enumerate(row) if token in ends), len(row))]
