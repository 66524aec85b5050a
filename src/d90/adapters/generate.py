"""Completions of prompts by a model with an adapter, token by token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from transformers import TextStreamer

from d90.adapters.adapter import check_generates
from d90.adapters.model import AdapterModel
from d90.adapters.predict import task_of
from d90.errors import D90Error
from d90.models import loading
from d90.tasks.kinds import Generation

MAX_NEW_TOKENS = 128

MESSAGES = ("messages",)
"""The text columns of a task of conversations."""

OnText = Callable[[str], None]
"""Called with each piece of a completion."""


def generate(
    model: AdapterModel,
    prompt: str,
    *,
    max_new_tokens: int = MAX_NEW_TOKENS,
    temperature: float = 0.0,
    seed: int = 0,
    chat: bool | None = None,
    on_text: OnText | None = None,
) -> str:
    """The completion of a prompt, which has the same tokens as in training.

    Args:
        model: from `d90.load`.
        prompt: of one example; in a chat, the message of the user.
        max_new_tokens: most tokens of the completion; fewer where the model takes no more.
        temperature: 0 for the most probable token each time; else they are drawn from
            `softmax(logits / temperature)`.
        seed: of the draws.
        chat: whether the prompt goes into the chat template; None for as the task has it.
        on_text: called with the text so far not given, as soon as a word is whole.

    Raises:
        D90Error: an adapter of another kind; a prompt without tokens, or with more than the model
            takes; no chat template; a temperature below 0.
    """
    check_temperature(temperature)
    ids = prompt_ids(model, prompt, chat=chat)
    room = loading.longest_input(model, model.tokenizer)
    room -= 0 if model.config.is_encoder_decoder else ids.shape[1]
    sampling: dict[str, Any] = {"do_sample": False}
    if temperature > 0:
        sampling = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
    streamer = _Streamer(model.tokenizer, on_text)
    decoder: Any = model.eval()
    # transformers draws from the generator of the process.
    with torch.random.fork_rng(), loading.silence_transformers():
        torch.manual_seed(seed)
        decoder.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=min(max_new_tokens, room),
            streamer=streamer,
            **sampling,
        )
    return streamer.text


def check_temperature(temperature: float) -> None:
    """Check the temperature of `generate`.

    Raises:
        D90Error: it is below 0, infinite or NaN.
    """
    if not 0 <= temperature < float("inf"):
        raise D90Error(f"temperature {temperature}: expected 0 or a positive number.")


def prompt_ids(model: AdapterModel, prompt: str, *, chat: bool | None = None) -> torch.Tensor:
    """The tokens that a completion follows, shape (1, tokens).

    Raises:
        D90Error: as `generate`.
    """
    info = task_of(model)
    check_generates(info, expected=True)
    is_apart: bool = model.config.is_encoder_decoder
    if is_apart and not info.text_columns:
        raise D90Error(
            f"the task '{info.name}' is of plain text, before which '{model.base.name}', an "
            "encoder-decoder model, reads no prompt: there is nothing to complete."
        )
    chat = info.text_columns == MESSAGES if chat is None else chat
    if chat and "chat_template" in info.options:
        model.tokenizer.chat_template = info.options["chat_template"]
    kind, longest = Generation().on(model), loading.longest_input(model, model.tokenizer)
    tokens = kind.prompt_tokens(model.tokenizer, ("user", prompt) if chat else (prompt,))
    if not tokens:
        raise D90Error("the prompt has no tokens: give at least a word.")
    if len(tokens) > longest - (not is_apart):
        raise D90Error(
            f"the prompt has {len(tokens):,} tokens and '{model.base.name}' takes at most "
            f"{longest:,}, its completion included: shorten it."
        )
    return torch.tensor([tokens], device=model.device)


class _Streamer(TextStreamer):
    """Gives a completion as its words become whole, and keeps it."""

    def __init__(self, tokenizer: Any, on_text: OnText | None) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self.text, self._on_text = "", on_text

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Called by transformers with each piece."""
        self.text += text
        if self._on_text is not None and text:
            self._on_text(text)
