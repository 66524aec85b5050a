"""Completions: how tables have them, and what predictions of them score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from d90.errors import D90Error, single_line
from d90.tasks.tables import Table
from d90.utils.reading import read_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ROLES = ("system", "user", "assistant")


def pack(right: Tensor, is_exact: Tensor, is_chosen: Tensor) -> Tensor:
    """The prediction of each row: how many tokens are right, and two bits, the last `is_exact`.

    >>> import torch
    >>> pack(torch.tensor([3, 2]), torch.tensor([False, True]), torch.tensor([True, True])).tolist()
    [14, 11]
    """
    return 4 * right + 2 * is_chosen + is_exact


def tokens_right(values: Sequence[int]) -> int:
    """How many tokens are right in all rows together.

    >>> tokens_right([14, 11])
    5
    """
    return sum(value >> 2 for value in values)


def token_accuracy(tokens: Sequence[int], values: Sequence[int]) -> float:
    """The fraction of all completion tokens that are predicted, given those before them.

    >>> token_accuracy([4, 6], [16, 4])
    0.5
    """
    return tokens_right(values) / sum(tokens)


def exact_match(tokens: Sequence[int], values: Sequence[int]) -> float:
    """The fraction of completions, or of their answers, that greedy decoding gives.

    >>> exact_match([4, 6], [17, 4])
    0.5
    """
    return sum(value & 1 for value in values) / len(values)


def choice_accuracy(tokens: Sequence[int], values: Sequence[int]) -> float:
    """The fraction of completions that are the most likely one of the task's choices.

    >>> choice_accuracy([4, 6], [18, 4])
    0.5
    """
    return sum(value >> 1 & 1 for value in values) / len(values)


METRICS: dict[str, Callable[[Sequence[int], Sequence[int]], float]] = {
    "token_accuracy": token_accuracy,
    "exact_match": exact_match,
    "choice_accuracy": choice_accuracy,
}


def read_completions(table: Table, column: str) -> list[str]:
    """The completions: texts, or the last messages of conversations.

    Raises:
        D90Error: one is empty, missing or no text.
    """
    found = []
    for row, value in enumerate(table.column(column)):
        if isinstance(value, list):
            value = read_messages(table, column, row)[-1][1]
        if not isinstance(value, str) or not value:
            problem = "empty completion" if value in (None, "") else f"{value!r:.40} is no text"
            raise D90Error(f"{table.where}, row {row + 1}: {problem} in column '{column}'.")
        found.append(value)
    return found


def read_messages(table: Table, column: str, row: int) -> list[tuple[str, str]]:
    """The role and content of each message of a conversation.

    Raises:
        D90Error: it is no such list, or its last message is not the assistant's.
    """
    value = table.column(column)[row]
    where = f"{table.where}, row {row + 1}, column '{column}'"
    found = []
    for message in value if isinstance(value, list) else ():
        role, content = (
            (message.get("role"), message.get("content")) if isinstance(message, dict) else ("", "")
        )
        if role not in ROLES or not isinstance(content, str):
            raise D90Error(
                f"{where}: a message has a role ({', '.join(ROLES)}) and a text as its content, "
                f"got {message!r:.60}."
            )
        found.append((role, content))
    if len(found) < 2 or found[-1][0] != "assistant":
        raise D90Error(f"{where}: expected two messages or more, the last one the assistant's.")
    return found


def chat_prompt(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> str:
    """A conversation up to where its answer begins, by the chat template of the tokenizer.

    Args:
        tokenizer: of the model.
        texts: the role and content of each message.

    Raises:
        D90Error: there is no template.
    """
    return _templated(tokenizer, texts, add_generation_prompt=True)


def chat_completion(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], completion: str, where: str
) -> str:
    """A conversation from its answer on: what follows `chat_prompt`.

    Raises:
        D90Error: the prompt is not what the whole conversation begins with; as `chat_prompt`.
    """
    before = chat_prompt(tokenizer, texts)
    whole = _templated(tokenizer, (*texts, "assistant", completion))
    if not whole.startswith(before):
        raise D90Error(f"{where}: the chat template changes the prompt when the answer is known.")
    return whole[len(before) :]


def _templated(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], **options: Any) -> str:
    if tokenizer.chat_template is None:
        raise D90Error(
            "the tokenizer of the model has no chat template: take an instruction-tuned model, or "
            "give the columns prompt and completion."
        )
    pairs = zip(texts[::2], texts[1::2], strict=True)
    messages = [{"role": role, "content": content} for role, content in pairs]
    text: Any = tokenizer.apply_chat_template(messages, tokenize=False, **options)
    return text


def use_template(tokenizer: Any, template: str, texts: Sequence[tuple[str, ...]]) -> None:
    """Give a tokenizer another chat template.

    Args:
        tokenizer: changed in place.
        template: Jinja, which transformers renders in a sandbox.
        texts: of the examples: the role and content of each message.

    Raises:
        D90Error: the template cannot be rendered; the examples are no conversations.
    """
    first = texts[0]
    if len(first) < 2:
        raise D90Error(
            "chat_template: for conversations, in the column messages, and there are none."
        )
    tokenizer.chat_template = template
    try:
        chat_prompt(tokenizer, first)
    except Exception as error:  # Jinja's own, and whatever an expression raises
        raise D90Error(f"chat_template cannot be rendered: {single_line(error, 200)}.") from error


def read_template(file_or_text: str) -> str:
    """A chat template: a text with a brace, or what is in a file.

    Raises:
        D90Error: there is no such file.
    """
    if "{" in file_or_text:
        return file_or_text
    return read_text(Path(file_or_text), "chat_template")
