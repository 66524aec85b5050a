"""Tiny models and tasks that train in a second, and the real small model where it is at hand."""

from __future__ import annotations

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
    """`precision="auto"` would train in bf16 on some machines and not on others."""
    monkeypatch.setattr("d90.training.config.has_bf16", lambda: False)


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
    return tiny.tokenizer()


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a random BERT of width 16, without a head, as a pretrained model has it."""
    folder = tmp_path_factory.mktemp("models") / "tiny-bert"
    tiny.write_tiny_model(folder)
    return folder


@pytest.fixture(scope="session")
def bert_tiny() -> Path:
    """The real small model that lies beside the repository, where it does."""
    if not BERT_TINY.is_dir():
        pytest.skip(f"the real model {BERT_TINY.name} is not beside this repository")
    return BERT_TINY


@pytest.fixture(scope="session")
def toy_task() -> Task:
    """A task of two classes that a tiny model learns at once."""
    return tiny.toy_task()


@pytest.fixture(scope="session")
def toy_folder(tmp_path_factory: pytest.TempPathFactory, toy_task: Task) -> Path:
    """The toy task as a user has it, in a folder whose name has a space."""
    folder = tmp_path_factory.mktemp("tasks") / "toy task"
    tiny.write_task(toy_task, folder)
    return folder


@pytest.fixture(scope="session")
def ready_folder(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Path:
    """A tiny model whose body knows the toy task, as a pretrained one knows its language."""
    folder = tmp_path_factory.mktemp("models") / "tiny model"
    tiny.write_ready_model(tiny_folder, folder)
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
def postgres_url(postgres: Server, postgres_tables: str) -> Iterator[str]:
    """A store of its own for each test."""
    name = f"d90_{uuid.uuid4().hex[:12]}"
    postgres.execute(f"CREATE DATABASE {name} TEMPLATE {postgres_tables}")
    yield postgres.url(name)
    postgres.execute(f"DROP DATABASE {name} WITH (FORCE)")
