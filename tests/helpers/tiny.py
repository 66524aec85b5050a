"""The tiny model and the toy task of the tests, in memory or in a folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from d90.executors.runner import TrialRunner
from d90.rng import philox
from d90.tasks import Split, Task
from d90.tasks.kinds import Regression
from d90.training import TrainConfig, train

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
GOOD = ["good", "great"]
BAD = ["bad", "awful"]
FILLER = [f"word{i}" for i in range(6)]


def tokenizer(words: Sequence[str] = (*GOOD, *BAD, *FILLER)) -> PreTrainedTokenizerFast:
    """A word-level tokenizer, for the examples of `toy_task` by default."""
    vocabulary = {word: number for number, word in enumerate([*SPECIAL, *words])}
    model = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    model.pre_tokenizer = Whitespace()
    model.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    return PreTrainedTokenizerFast(tokenizer_object=model, model_input_names=inputs, **names)


def write_tiny_model(folder: Path) -> None:
    """Write a checkpoint of a random BERT of width 16 without a head."""
    word_tokenizer = tokenizer()
    config = BertConfig(
        vocab_size=len(word_tokenizer),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        pad_token_id=0,
        initializer_range=0.1,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = BertModel(config)
    # Good and bad words point in opposite directions, or no small subspace would learn.
    words = model.embeddings.word_embeddings.weight.data
    direction = words[-1].sign()
    for word in (*GOOD, *BAD):
        sign = 1 if word in GOOD else -1
        words[word_tokenizer.convert_tokens_to_ids(word)] += direction * sign
    model.save_pretrained(folder)
    word_tokenizer.save_pretrained(folder)


def language_model(family: str, vocabulary: int) -> PreTrainedModel:
    """A random GPT-2 or T5, whose tables are tied, or Llama, whose are not; of width 16."""
    tokens: dict[str, Any] = {
        "pad_token_id": 0,
        "bos_token_id": 2,
        "eos_token_id": 3,
        "vocab_size": vocabulary,
    }
    shape: dict[str, Any]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if family == "gpt2":
            shape = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32}
            return GPT2LMHeadModel(GPT2Config(**shape, **tokens, initializer_range=0.1))
        if family == "llama":
            shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
            sizes: dict[str, Any] = {"intermediate_size": 32, "max_position_embeddings": 32}
            return LlamaForCausalLM(LlamaConfig(**shape, **sizes, **tokens, initializer_range=0.1))
        shape = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
        config = T5Config(**shape, **tokens)
        config.decoder_start_token_id = 0
        return T5ForConditionalGeneration(config)


def write_language_model(
    folder: Path, family: str, words: PreTrainedTokenizerFast | None = None
) -> None:
    """Write a checkpoint of `language_model`, which ends a text with `[SEP]`."""
    words = words or tokenizer()
    words.eos_token = "[SEP]"
    language_model(family, len(words)).save_pretrained(folder)
    words.save_pretrained(folder)


def toy_split(rows: int, seed: int) -> Split:
    """Examples of 3 to 7 words, one of which, good or bad, determines the class."""
    texts, labels = [], []
    words = philox.words(seed, philox.Stream.DATA, 0, rows * 16).view(rows, 16)
    for row in words.tolist():
        label = row[0] % 2
        text = [FILLER[word % len(FILLER)] for word in row[4 : 4 + 2 + row[1] % 5]]
        text.insert(row[2] % len(text), (GOOD if label else BAD)[row[3] % 2])
        texts.append((" ".join(text),))
        labels.append(label)
    return Split(texts, labels)


def toy_task() -> Task:
    """A binary task that a tiny model learns within a few steps."""
    return Task(
        name="toy",
        text_columns=("text",),
        labels=("bad", "good"),
        metric="accuracy",
        train=toy_split(96, seed=1),
        evaluation={"validation": toy_split(64, seed=2)},
    )


def toy_regression() -> Task:
    """The texts of `toy_task` with a score: of the word that decides its class."""
    scores = {"awful": 0.5, "bad": 1.5, "good": 3.25, "great": 4.75}

    def split(rows: int, seed: int) -> Split:
        texts = toy_split(rows, seed).texts
        words = [next(word for word in text.split() if word in scores) for (text,) in texts]
        return Split(texts, [scores[word] for word in words])

    train = split(96, seed=1)
    return Task(
        name="toy-scores",
        text_columns=("text",),
        labels=(),
        metric="pearson",
        train=train,
        evaluation={"validation": split(64, seed=2)},
        kind="regression",
        options=Regression.options(train.labels),
    )


def toy_generation() -> Task:
    """The texts of `toy_task`, each to be completed by a word or two that tell its class."""

    def split(rows: int, seed: int) -> Split:
        examples = toy_split(rows, seed)
        return Split(examples.texts, [("bad", "great good")[label] for label in examples.labels])

    return Task(
        name="toy-completions",
        text_columns=("prompt",),
        labels=(),
        metric="token_accuracy",
        train=split(96, seed=1),
        evaluation={"validation": split(64, seed=2)},
        kind="generation",
    )


def write_task(task: Task, folder: Path) -> None:
    """Write a task as a folder of JSON lines."""
    folder.mkdir()
    for name, split in {"train": task.train, **task.evaluation}.items():
        rows = zip(split.texts, split.labels, strict=True)
        text_name, label_name = (
            ("prompt", "completion") if task.kind == "generation" else ("text", "label")
        )
        lines = [json.dumps({text_name: text, label_name: label}) for (text,), label in rows]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")


def write_ready_model(tiny_folder: Path, folder: Path) -> None:
    """Write a checkpoint of the tiny model whose body is trained on the toy task.

    A new head on this body trains in a subspace within a few steps; on a random body it does not.
    """
    config = TrainConfig(epochs=6, batch_size=8, precision="no")
    runner = TrialRunner(str(tiny_folder), toy_task(), config, max_length=16)
    train(runner.model, runner.data, config, learning_rate=0.02)
    body = runner.model.base_model
    assert isinstance(body, BertModel)
    body.save_pretrained(folder)
    for file in tiny_folder.glob("tokenizer*"):
        shutil.copy(file, folder)
