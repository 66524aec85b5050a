"""Generation: a completion after a prompt, by the cross-entropy of its tokens."""

from __future__ import annotations

import inspect
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from d90.errors import D90Error
from d90.search.criteria import PRETRAINED_MODEL
from d90.tasks.completions import (
    METRICS,
    chat_completion,
    chat_prompt,
    pack,
    read_completions,
    read_messages,
    tokens_right,
    use_template,
)
from d90.tasks.decoding import MAX_NEW_TOKENS, Answers, align_left
from d90.tasks.kinds.base import BatchPredictions, Kind, Predictions
from d90.tasks.tables import Table, Tables
from d90.tasks.task import Split
from d90.tasks.tokens import PaddingSpec, TokenizedSplit, encode_pieces

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PLAIN: dict[str, Any] = {"split_special_tokens": True}

IGNORED = -100
"""The target of a position whose token is not predicted (`cross_entropy`'s `ignore_index`)."""


MAX_CHOICES = 256
"""Of `choice_accuracy`: each costs as much as an evaluation of the loss."""

CHOICES = {"choices": "train"}
"""The options of a task with `choice_accuracy`."""


@dataclass(frozen=True)
class Generation(Kind):
    """Prompts with a completion each.

    A text alone is a completion without a prompt, and of a conversation the last message is the
    completion. In a `Split`, the texts of an example are its prompt, or nothing, or the role and
    content of each message; the label is the completion. Of a `TokenizedSplit`, the label is the
    number of tokens of the completion, which are the last ones of the example. A prediction is
    `pack`ed.

    An example matches exactly if greedy decoding gives its completion, which it does if and only if
    each token is the most probable one after those before it: nothing has to be decoded. With a
    pattern (`by_answer`) it matches if the answer in the decoded text is that in the completion.

    With `has_choices` the completions of the training split are choices, of which the model chooses
    the one with the highest likelihood: the sum of the log-probabilities of its tokens.

    The loss is `nll`, in nats a token of the completions. Its skill is 0 for the pretrained model.
    The floor of a metric is the score of the pretrained model or of the best constant prediction,
    whichever is larger.

    Attributes:
        chat_template: of conversations, in place of the tokenizer's.
        by_answer: what an exact match is of; None for the whole completion.
        has_choices: whether `choice_accuracy` is measured.
        choices: the tokens of each choice.
        is_encoder_decoder: whether the model reads the prompt apart.
        initial: the scores of the pretrained model on the primary split; empty if not known.
        constants: of each metric, the score of the best constant prediction there.
        floor_tokens: how many tokens are right at the floor of `token_accuracy`.
    """

    by_answer: Answers | None = None
    chat_template: str | None = None
    has_choices: bool = False
    choices: tuple[tuple[int, ...], ...] = ()
    is_encoder_decoder: bool = False
    initial: Mapping[str, float] = field(default_factory=dict)
    constants: Mapping[str, float] = field(default_factory=dict)
    floor_tokens: float = -math.inf

    name = "generation"
    needs = "the columns prompt and completion, or messages, or text alone"
    label = "completion"
    metrics = METRICS
    criteria = ("nll",)
    losses = ("nll",)
    reference = PRETRAINED_MODEL
    collapse = "is no better than the pretrained model or a constant prediction"
    evaluation_factor = 1  # The logits are large.
    starts_from_model = True

    @classmethod
    def columns(
        cls, table: Table, texts: Sequence[str] | None, label: str | None
    ) -> tuple[tuple[str, ...], str]:
        if texts is None and label is None:
            if {"prompt", "completion"} <= table.columns.keys():
                return ("prompt",), "completion"
            for column, prompt in (("messages", ("messages",)), ("text", ())):
                if column in table.columns:
                    return prompt, column
            raise D90Error(
                f"no columns prompt and completion, messages or text in {table.where}, which has "
                f"{', '.join(table.columns)}: name the prompt in text_columns and the completion "
                "in label_column."
            )
        names = tuple(texts or ())
        if len(names) > 1:
            raise D90Error(f"text_columns must name one column of prompts, got {len(names)}.")
        if label is None:
            label = {("messages",): "messages", (): "text"}.get(names, "completion")
        for name in (*names, label):
            table.column(name)
        return names, label

    @classmethod
    def fits(cls, tables: Tables, column: str) -> bool:
        """Texts beside other columns are not taken for plain text: one may be a label."""
        is_plain = all([*table.columns] == ["text"] for table in tables.all())
        return column in ("completion", "messages") or is_plain

    @classmethod
    def read(cls, tables: Tables, column: str) -> tuple[tuple[str, ...], list[list[str]]]:
        labels = [read_completions(table, column) for table in tables.all()]
        if len(set(labels[0])) < 2:
            raise D90Error(
                f"{tables.train.where}: every completion in column '{column}' is the same."
            )
        return (), labels

    @classmethod
    def read_texts(
        cls, table: Table, columns: Sequence[str], rows: Sequence[int]
    ) -> tuple[tuple[str, ...], ...]:
        if not columns:
            return ((),) * len(rows)
        values = table.column(columns[0])
        if not any(isinstance(values[row], list) for row in rows):
            return super().read_texts(table, columns, rows)
        found = [read_messages(table, columns[0], row)[:-1] for row in rows]
        return tuple(tuple(part for message in prompt for part in message) for prompt in found)

    @classmethod
    def given_options(
        cls, metric: str | None, given: Mapping[str, str], usual: Mapping[str, str]
    ) -> dict[str, str]:
        if "chat_template" in given:
            template = {"chat_template": given["chat_template"]}
            others = {k: value for k, value in given.items() if k not in template}
            return template | cls.given_options(metric, others, usual)
        if metric not in (None, "exact_match"):
            if given:
                raise D90Error(f"{', '.join(given)}: for exact_match, and the metric is {metric}.")
            return CHOICES if metric == "choice_accuracy" else {}
        options = {**usual, **given}
        if options and "answer_pattern" not in options:
            raise D90Error("max_new_tokens: nothing is decoded without answer_pattern.")
        return {"max_new_tokens": str(MAX_NEW_TOKENS), **options} if options else {}

    @classmethod
    def of(cls, labels: tuple[str, ...], options: Mapping[str, str]) -> Generation:
        given = dict(options)
        template = given.pop("chat_template", None)
        if not labels and given in ({}, CHOICES):
            return cls(chat_template=template, has_choices=bool(given))
        if labels or given.keys() != {"answer_pattern", "max_new_tokens"}:
            raise D90Error(
                "options of a generation: expected answer_pattern and max_new_tokens, choices, "
                f"chat_template, or none, got {dict(options)}."
            )
        return cls(Answers.of(given["answer_pattern"], given["max_new_tokens"]), template)

    @property
    def available_metrics(self) -> tuple[str, ...]:
        return tuple(m for m in METRICS if m != "choice_accuracy" or self.has_choices)

    def check_metric(self, metric: str | None) -> str:
        """As of every kind; the default is that of the answers where they have a pattern."""
        return super().check_metric(metric or ("exact_match" if self.by_answer else None))

    def on(
        self,
        model: nn.Module,
        tokenizer: PreTrainedTokenizerBase | None = None,
        longest: int | None = None,
    ) -> Generation:
        config: Any = model.config
        is_apart: bool = config.is_encoder_decoder
        by_answer = self.by_answer and replace(self.by_answer, tokenizer=tokenizer, longest=longest)
        return replace(self, is_encoder_decoder=is_apart, by_answer=by_answer)

    def from_train(self, split: TokenizedSplit) -> Generation:
        if not self.has_choices:
            return self
        choices = tuple(sorted({*map(tuple, split.ends(split.labels))}))
        if len(choices) > MAX_CHOICES:
            raise D90Error(
                f"choice_accuracy: the training split has {len(choices):,} different completions, "
                f"and choices are at most {MAX_CHOICES}: take another metric."
            )
        return replace(self, choices=choices)

    def from_initial(
        self, split: TokenizedSplit, labels: Sequence[int], predicted: Predictions
    ) -> Generation:
        completions = split.ends(split.labels)
        tokens = Counter(chain.from_iterable(completions))
        answers = Counter(map(self.by_answer.find if self.by_answer else tuple, completions))
        commonest = max(tokens.values())
        return replace(
            self,
            initial=self.scores(labels, predicted),
            constants={
                "token_accuracy": commonest / tokens.total(),
                "exact_match": max(answers.values()) / len(split),
                "choice_accuracy": max(answers.values()) / len(split),
            },
            floor_tokens=max(commonest, tokens_right(predicted.values)),
        )

    @property
    def initial_scores(self) -> Mapping[str, float]:
        return self.initial

    def constant_score(self, metric: str, labels: Sequence[Any]) -> float:
        """The score of the best constant prediction, or of the pretrained model if it is larger.

        Raises:
            D90Error: the latter is not known.
        """
        if metric not in self.initial:
            raise D90Error("the pretrained model has not been scored yet.")
        return max(self.initial[metric], self.constants[metric])

    def reference_of(self, metric: str) -> str:
        if self.constant_score(metric, ()) == self.initial[metric]:
            return PRETRAINED_MODEL
        if metric == "token_accuracy":
            return "majority token"
        return "majority answer" if self.by_answer else "majority completion"

    @property
    def model_options(self) -> Mapping[str, Any]:
        return {"num_labels": None, "labels": None}

    def padding(self, tokenizer: PreTrainedTokenizerBase) -> Mapping[str, int]:
        pad: Any = tokenizer.pad_token_id
        return {"input_ids": pad}

    def encode(
        self, tokenizer: PreTrainedTokenizerBase, split: Split, name: str, max_length: int
    ) -> TokenizedSplit:
        """Tokenize prompts and completions apart: a prompt has the same tokens in generation.

        The end-of-text token follows a completion; a plain text is truncated to `max_length`.

        Raises:
            D90Error: a completion without tokens, without an answer or among no choices; too many
                tokens; no chat template.
        """
        if self.chat_template is not None:
            use_template(tokenizer, self.chat_template, split.texts)
        pieces: list[list[int]] = []
        counts: list[int] = []
        for row, (texts, completion) in enumerate(zip(split.texts, split.labels, strict=True)):
            where = f"split '{name}', row {row}"
            prompt, target = self._tokens(tokenizer, texts, completion, where)
            if not texts:
                target = target[: max_length - len(prompt)]
            if not target:
                raise D90Error(f"{where}: its completion has no token to predict.")
            _check_length(self.is_encoder_decoder, len(prompt), len(target), max_length, where)
            if self.choices and tuple(target) not in self.choices:
                raise D90Error(
                    f"{where}: its completion {completion!r:.40} is none of the "
                    f"{len(self.choices)} of the training split, which are the choices."
                )
            if self.by_answer is not None:
                length = 0 if self.is_encoder_decoder else len(prompt)
                self.by_answer.check(completion, target, length, where)
            pieces.append(prompt + target)
            counts.append(len(target))
        return encode_pieces(pieces, counts)

    def _tokens(
        self,
        tokenizer: PreTrainedTokenizerBase,
        texts: tuple[str, ...],
        completion: str,
        where: str,
    ) -> tuple[list[int], list[int]]:
        """The tokens of a prompt and of its completion."""
        prompt = self.prompt_tokens(tokenizer, texts)
        if len(texts) > 1:
            rest = chat_completion(tokenizer, texts, completion, where)
            return prompt, tokenizer(rest, add_special_tokens=False)["input_ids"]
        target = list(tokenizer(completion, add_special_tokens=False, **_PLAIN)["input_ids"])
        end: Any = tokenizer.eos_token_id
        if target and end is not None:
            target.append(end)
        # The first token of a causal model is not predicted where nothing is before it.
        has_first = bool(prompt) or self.is_encoder_decoder
        return (prompt, target) if has_first else (target[:1], target[1:])

    def prompt_tokens(
        self, tokenizer: PreTrainedTokenizerBase, texts: tuple[str, ...]
    ) -> list[int]:
        """The tokens of a prompt, or of the role and content of each message of a conversation.

        Raises:
            D90Error: a conversation, and no chat template.
        """
        if len(texts) > 1:
            return tokenizer(chat_prompt(tokenizer, texts), add_special_tokens=False)["input_ids"]
        prompt = list(tokenizer("".join(texts), **_PLAIN)["input_ids"])
        # What ends a text must not stand between a prompt and its completion.
        ends = (tokenizer.eos_token_id, tokenizer.sep_token_id)
        if not self.is_encoder_decoder and len(prompt) > 1 and prompt[-1] in ends:
            prompt.pop()
        return prompt

    def collate(
        self, padding: PaddingSpec, split: TokenizedSplit, rows: Sequence[int], device: torch.device
    ) -> tuple[dict[str, Tensor], Tensor]:
        """The inputs of the model and `targets`, and the numbers of completion tokens.

        The targets of a causal model, shape (rows, positions), are those of the last positions,
        from the first one that any row predicts; other positions are `IGNORED`.
        """
        index = torch.as_tensor(rows)
        counts, starts, ends = split.labels[index], split.offsets[index], split.offsets[index + 1]
        flat, side = split.columns["input_ids"].long(), padding.padding_side
        examples = [flat[i:j] for i, j in zip(starts.tolist(), ends.tolist(), strict=True)]
        cuts = (ends - starts - counts).tolist()
        if self.is_encoder_decoder:
            inputs = [ids[:cut] for ids, cut in zip(examples, cuts, strict=True)]
            outputs = [ids[cut:] for ids, cut in zip(examples, cuts, strict=True)]
            targets = pad_sequence(outputs, batch_first=True, padding_value=IGNORED)
        else:
            inputs = examples
            outputs = [ids.clone() for ids in examples]
            for ids, cut in zip(outputs, cuts, strict=True):
                ids[:cut] = IGNORED
            targets = _padded(outputs, IGNORED, side)
            targets = targets[:, int((targets != IGNORED).any(0).nonzero()[0]) :]
        found = {
            "input_ids": _padded(inputs, padding.padding["input_ids"], side),
            "attention_mask": _padded([torch.ones_like(ids) for ids in inputs], 0, side),
            "targets": targets,
        }
        return {k: v.to(device, non_blocking=True) for k, v in found.items()}, counts.to(device)

    def _logits(self, model: nn.Module, inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Logits of the targets, shape (rows, positions, vocabulary), and the targets."""
        named: dict[str, Any] = dict(inputs)
        targets = named.pop("targets")
        if self.is_encoder_decoder:
            shifted: Any = model.prepare_decoder_input_ids_from_labels
            named["decoder_input_ids"] = shifted(targets)
            return model(**named, use_cache=False).logits, targets
        # A logit predicts the next token.
        kept = targets.shape[1] + 1
        optional = {
            # Padding on the left shifts no position.
            "position_ids": (named["attention_mask"].cumsum(-1) - 1).clamp(min=0),
            "logits_to_keep": kept,
            "use_cache": False,
        }
        accepted = _accepted(type(model))
        named |= {name: value for name, value in optional.items() if name in accepted}
        return model(**named).logits[:, -kept:-1], targets

    def loss(self, model: nn.Module, inputs: Mapping[str, Tensor], labels: Tensor) -> Tensor:
        return _nll(*self._logits(model, inputs))

    def count(self, split: TokenizedSplit, rows: Sequence[int]) -> int:
        """The number of tokens of the completions."""
        return int(split.labels[torch.as_tensor(rows)].sum())

    def logit_positions(self, split: TokenizedSplit) -> int:
        return int(split.labels.max()) + 1

    @property
    def constant_loss(self) -> float:
        return self.initial.get("nll", 1.0)

    @property
    def value_dtype(self) -> torch.dtype:
        return torch.int32

    def predict(
        self, model: nn.Module, inputs: Mapping[str, Tensor], labels: Tensor
    ) -> BatchPredictions:
        """How many tokens of each completion are predicted, and whether it is (`pack`)."""
        logits, targets = self._logits(model, inputs)
        nll = _nll(logits, targets)
        right = (logits.argmax(-1) == targets).sum(1)
        is_exact = right == labels
        if self.by_answer is not None and nll.isfinite():  # Nothing is decoded from an error.
            prompts, completions = self._prompts(inputs, labels), _completions_of(inputs)
            found = self.by_answer.are_right(model, prompts, completions)
            is_exact = torch.tensor(found, device=labels.device)
        is_chosen = self._is_chosen(model, inputs, labels) if self.choices else right < 0
        return BatchPredictions(pack(right, is_exact, is_chosen), nll[None], nll.isfinite())

    def _prompts(self, inputs: Mapping[str, Tensor], counts: Tensor) -> dict[str, Tensor]:
        """The inputs of a model without the completions; for a causal one, padded on the left."""
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        if self.is_encoder_decoder:
            return {"input_ids": ids, "attention_mask": mask}
        return align_left(ids, mask, counts)

    def _is_chosen(self, model: nn.Module, inputs: Mapping[str, Tensor], counts: Tensor) -> Tensor:
        """Whether no other choice is more likely than the completion, shape (rows,)."""
        prompts, losses = self._prompts(inputs, counts), []
        for choice in self.choices:
            targets = torch.tensor(choice, device=counts.device).expand(len(counts), -1)
            added = {"input_ids": targets, "attention_mask": torch.ones_like(targets)}
            whole = {name: torch.cat([of, added[name]], 1) for name, of in prompts.items()}
            named = prompts if self.is_encoder_decoder else whole
            logits, _ = self._logits(model, {**named, "targets": targets})
            losses.append(cross_entropy(logits.float().mT, targets, reduction="none").sum(1))
        chosen = torch.stack(losses).argmin(0).tolist()
        pairs = zip(chosen, _completions_of(inputs), strict=True)
        found = [self.choices[choice] == tuple(tokens) for choice, tokens in pairs]
        return torch.tensor(found, device=counts.device)

    def score(self, metric: str, labels: Sequence[int], values: Sequence[int]) -> float:
        return METRICS[metric](labels, values)

    def skills(self, labels: Sequence[int], predicted: Predictions) -> dict[str, float]:
        """`1 - loss / (loss of the pretrained model)`; none where that is not known, or 0."""
        initial = self.initial.get("nll", 0.0)
        return {"nll": 1 - predicted.losses["nll"] / initial} if initial > 0 else {}

    def has_collapsed(self, values: Sequence[int], score: float) -> bool:
        """Whether no more tokens are right than at the floor, if that is known."""
        return tokens_right(values) <= self.floor_tokens

    def interpret(self, logits: Tensor) -> NDArray[np.float64]:
        raise D90Error("predictions of single examples are not for generation.")

    def answers(self, outputs: NDArray[np.float64]) -> list[Any]:
        raise D90Error("predictions of single examples are not for generation.")

    def to_row(self, outputs: Sequence[float]) -> dict[str, Any]:
        raise D90Error("predictions of single examples are not for generation.")


@lru_cache(maxsize=16)
def _accepted(model: type[nn.Module]) -> frozenset[str]:
    """The names of the arguments of a class's `forward`; every batch asks for them."""
    return frozenset(inspect.signature(model.forward).parameters)


def _nll(logits: Tensor, targets: Tensor) -> Tensor:
    """The sum over the targets, in nats and in float32 or more, shape ()."""
    flat = logits.to(torch.promote_types(logits.dtype, torch.float32)).flatten(0, 1)
    return cross_entropy(flat, targets.flatten(), reduction="sum", ignore_index=IGNORED)


def _completions_of(inputs: Mapping[str, Tensor]) -> list[list[int]]:
    return [row[row != IGNORED].tolist() for row in inputs["targets"].cpu()]


def _padded(rows: Sequence[Tensor], value: int, side: str) -> Tensor:
    return pad_sequence(list(rows), batch_first=True, padding_value=value, padding_side=side)


def _check_length(is_apart: bool, prompt: int, target: int, limit: int, where: str) -> None:
    """Refuse what would be truncated: a completion without its end, or without its prompt.

    Raises:
        D90Error: it is longer than the limit.
    """
    length = max(prompt, target) if is_apart else prompt + target
    if length > limit:
        raise D90Error(
            f"{where}: {prompt:,} tokens of prompt and {target:,} of completion, above "
            f"max_length {limit:,}: increase it, or leave out such rows."
        )
