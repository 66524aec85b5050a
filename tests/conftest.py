"""Tiny models and tasks that train in a second, and the real small model where it is at hand."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from tests.postgres import Server, missing, running
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from d90 import random
from d90.executors.local import LocalExecutor
from d90.store import Store
from d90.tasks import Split, Task
from d90.training import TrainSettings, train

BERT_TINY = Path(__file__).resolve().parents[2] / "shared" / "models" / "bert-tiny"

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
GOOD = ["good", "great"]
BAD = ["bad", "awful"]
FILLER = [f"word{i}" for i in range(6)]


@pytest.fixture(autouse=True)
def float32_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """`precision="auto"` would train in bf16 on some machines and not on others."""
    monkeypatch.setattr("d90.training.settings.has_bf16", lambda: False)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Two threads add up in another order; the tests ask for equal bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def fresh_accelerate() -> Iterator[None]:
    """accelerate keeps the precision of the first run for the whole process."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="session")
def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of whole words, for the texts of `toy_task`."""
    vocabulary = {word: number for number, word in enumerate([*SPECIAL, *GOOD, *BAD, *FILLER])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_input_names=inputs, **names)


@pytest.fixture(scope="session")
def tiny_folder(
    tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: PreTrainedTokenizerFast
) -> Path:
    """The folder of a random BERT of width 16, without a head, as a pretrained model has it."""
    folder = tmp_path_factory.mktemp("models") / "tiny-bert"
    config = BertConfig(
        vocab_size=len(tiny_tokenizer),
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
    # Good and bad words point apart, as pretraining would have it: else no small subspace learns.
    words = model.embeddings.word_embeddings.weight.data
    direction = words[-1].sign()
    for word in (*GOOD, *BAD):
        words[tiny_tokenizer.convert_tokens_to_ids(word)] += direction * (1 if word in GOOD else -1)
    model.save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def bert_tiny() -> Path:
    """The real small model that lies beside the repository, where it does."""
    if not BERT_TINY.is_dir():
        pytest.skip(f"the real model {BERT_TINY.name} is not beside this repository")
    return BERT_TINY


def toy_split(rows: int, seed: int) -> Split:
    """Texts of 3 to 7 words, one of which, good or bad, decides the class."""
    texts, labels = [], []
    words = random.words(seed, random.Stream.DATA, 0, rows * 16).view(rows, 16)
    for row in words.tolist():
        label = row[0] % 2
        text = [FILLER[word % len(FILLER)] for word in row[4 : 4 + 2 + row[1] % 5]]
        text.insert(row[2] % len(text), (GOOD if label else BAD)[row[3] % 2])
        texts.append((" ".join(text),))
        labels.append(label)
    return Split(texts, labels)


@pytest.fixture(scope="session")
def toy_task() -> Task:
    """A task of two classes that a tiny model learns at once."""
    return Task(
        name="toy",
        text_columns=("text",),
        labels=("bad", "good"),
        metric="accuracy",
        train=toy_split(96, seed=1),
        evaluation={"validation": toy_split(64, seed=2)},
    )


@pytest.fixture(scope="session")
def toy_folder(tmp_path_factory: pytest.TempPathFactory, toy_task: Task) -> Path:
    """The toy task as a user has it, in a folder whose name has a space."""
    folder = tmp_path_factory.mktemp("tasks") / "toy task"
    folder.mkdir()
    for name, split in {"train": toy_task.train, **toy_task.evaluation}.items():
        rows = zip(split.texts, split.labels, strict=True)
        lines = [json.dumps({"text": text, "label": label}) for (text,), label in rows]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="session")
def ready_folder(
    tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path, toy_task: Task
) -> Path:
    """A tiny model whose body knows the toy task, as a pretrained one knows its language.

    A new head on top of it trains in a subspace within a few steps; on a random body none does.
    """
    settings = TrainSettings(0.02, epochs=6, batch_size=8, precision="no")
    executor = LocalExecutor(str(tiny_folder), toy_task, settings, max_length=16)
    train(executor.model, executor.data, settings)
    folder = tmp_path_factory.mktemp("models") / "tiny model"
    body = executor.model.base_model
    assert isinstance(body, BertModel)
    body.save_pretrained(folder)
    for file in tiny_folder.glob("tokenizer*"):
        shutil.copy(file, folder)
    return folder


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server, where one is installed."""
    if why := missing():
        pytest.skip(why)
    with running() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_tables(postgres: Server) -> str:
    """A database with the tables of a store, which take seconds to make."""
    postgres.execute("CREATE DATABASE d90_template")
    Store(postgres.url("d90_template"))._storage.remove_session()
    postgres.drop_connections("d90_template")
    return "d90_template"


@pytest.fixture
def postgres_url(postgres: Server, postgres_tables: str) -> str:
    """A store of its own for each test."""
    name = f"d90_{uuid.uuid4().hex[:12]}"
    postgres.execute(f"CREATE DATABASE {name} TEMPLATE {postgres_tables}")
    return postgres.url(name)
