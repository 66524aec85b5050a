"""Fixtures: tiny models and tasks that train in a second, a small real model, PostgreSQL."""

from __future__ import annotations

import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from tests.helpers import tiny
from tests.helpers.postgres import Server, missing, running
from transformers import PreTrainedTokenizerFast

from d90.storage.store import Store
from d90.tasks import Task

BERT_TINY = Path(__file__).resolve().parents[2] / "shared" / "models" / "bert-tiny"


@pytest.fixture(autouse=True)
def float32_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep `precision="auto"` from choosing bf16 on machines that support it."""
    monkeypatch.setattr("d90.training.config.has_bf16", lambda: False)


@pytest.fixture(autouse=True, scope="session")
def hears_interrupts() -> None:
    """A shell starts what runs in the background deaf to Ctrl-C, and so would be every process."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums over several threads have another order; the tests compare bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def fresh_accelerate() -> Iterator[None]:
    """Reset accelerate, which keeps the precision of the first run for the whole process."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="session")
def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A word-level tokenizer for the examples of `toy_task`."""
    return tiny.tokenizer()


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a random BERT of width 16 without a head."""
    folder = tmp_path_factory.mktemp("models") / "tiny-bert"
    tiny.write_tiny_model(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_language_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a random GPT-2 of width 16."""
    folder = tmp_path_factory.mktemp("models") / "tiny-gpt2"
    tiny.write_language_model(folder, "gpt2")
    return folder


@pytest.fixture(scope="session")
def completions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the toy task of generation."""
    folder = tmp_path_factory.mktemp("tasks") / "completions"
    tiny.write_task(tiny.toy_generation(), folder)
    return folder


@pytest.fixture(scope="session")
def bert_tiny() -> Path:
    """A small pretrained BERT beside the repository; skips the test if it is missing."""
    if not BERT_TINY.is_dir():
        pytest.skip(f"the model {BERT_TINY.name} is not beside this repository")
    return BERT_TINY


@pytest.fixture(scope="session")
def toy_task() -> Task:
    """A binary task that a tiny model learns within a few steps."""
    return tiny.toy_task()


@pytest.fixture(scope="session")
def toy_folder(tmp_path_factory: pytest.TempPathFactory, toy_task: Task) -> Path:
    """The toy task as a folder of JSON lines, with a space in its name."""
    folder = tmp_path_factory.mktemp("tasks") / "toy task"
    tiny.write_task(toy_task, folder)
    return folder


@pytest.fixture(scope="session")
def ready_folder(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Path:
    """A checkpoint of a tiny model whose body is trained on the toy task."""
    folder = tmp_path_factory.mktemp("models") / "tiny model"
    tiny.write_ready_model(tiny_folder, folder)
    return folder


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server; skips the test if none is installed."""
    if reason := missing():
        pytest.skip(reason)
    with running() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_tables(postgres: Server) -> str:
    """A template database with the tables of a store, which take seconds to create."""
    postgres.execute("CREATE DATABASE d90_template")
    Store(postgres.url("d90_template"))._storage.remove_session()
    postgres.drop_connections("d90_template")
    return "d90_template"


@pytest.fixture
def postgres_url(postgres: Server, postgres_tables: str) -> Iterator[str]:
    """The URL of a new database with the tables of a store."""
    name = f"d90_{uuid.uuid4().hex[:12]}"
    postgres.execute(f"CREATE DATABASE {name} TEMPLATE {postgres_tables}")
    yield postgres.url(name)
    postgres.execute(f"DROP DATABASE {name} WITH (FORCE)")
