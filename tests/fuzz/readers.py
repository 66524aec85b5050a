"""Every reader of files from outside: valid files to start from, and how d90 reads one.

A reader that accepts a file is asked for a little more than the value: what was read can be written
and read again, or is used as a command would use it.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tests.fuzz.mutators import MUTATORS, Mutator, ending, mutate_bytes, mutate_value

from d90.errors import D90Error

GOLDEN = Path(__file__).parent.parent / "adapters" / "golden"


@dataclass(frozen=True)
class Prepared:
    """A reader in a folder.

    Attributes:
        files: valid files to mutate, by name.
        read: reads a file of that folder; raises D90Error if it refuses it.
        mutate: a mutator of all of them; by default that of the name's ending.
    """

    files: Mapping[str, bytes]
    read: Callable[[Path], object]
    mutate: Mutator | None = None

    def mutator(self, name: str) -> Mutator:
        """The mutator of a file."""
        return MUTATORS[ending(name)] if self.mutate is None else self.mutate


@dataclass(frozen=True)
class Reader:
    """What is fuzzed.

    Attributes:
        modules: that read the files, without `d90.`.
        share: of a thousand inputs; the slow ones get fewer.
        prepare: writes what the reader needs beside a file into a folder.
    """

    modules: tuple[str, ...]
    share: int
    prepare: Callable[[Path], Prepared]


def adapter(folder: Path) -> Prepared:
    """Adapters, most with a valid checksum: what is accepted is written to the same bytes."""
    from d90.adapters import load_adapter

    def read(path: Path) -> None:
        parsed = load_adapter(path)
        assert parsed.parameters.shape == (parsed.subspace.d,)
        assert parsed.to_bytes() == path.read_bytes(), "reading and writing changed the bytes"

    files = {path.name: path.read_bytes() for path in GOLDEN.glob("*.safetensors")}
    return Prepared(dict(sorted(files.items())), read, mutate_adapter)


def mutate_adapter(rng: random.Random, data: bytes) -> bytes:
    """The whole file; or its parameters or a metadata value, sealed with a checksum again."""
    from d90.adapters import container

    if rng.random() < 0.25:
        return mutate_bytes(rng, data)
    content = container.unpack(data)  # of an earlier mutation: raises D90Error
    metadata: dict[str, Any] = dict(content.metadata)
    dtype, body = content.dtype, content.data
    match rng.randrange(4):
        case 0:
            body = mutate_bytes(rng, body)
            body = body[: len(body) - len(body) % container.SIZES[dtype]]
        case 1:
            changed = mutate_value(rng, metadata)
            metadata = changed if isinstance(changed, dict) else metadata
        case 2:
            dtype = rng.choice([*container.SIZES])
            metadata["code"] = rng.choice(("float32", "float16", "uniform", "levels"))
            body = mutate_bytes(rng, body) + bytes(rng.randrange(4))
        case _:
            name = rng.choice([*metadata])
            fields = str(metadata[name]).split(" ")
            at = rng.randrange(len(fields))
            values = ("", "0", "1", str(2**63), str(2**64), "-1", "%ff", "%ed%a0%80", "%0a", "nan")
            fields[at] = rng.choice((*values, rng.choice(fields), fields[at] + "0", "%1b[31m"))
            metadata[name] = " ".join(fields)
    if metadata and rng.random() < 0.1:
        name = rng.choice(sorted(metadata))
        text = str(metadata[name]).encode("utf-8", "replace")
        metadata[name] = mutate_bytes(rng, text).decode("latin-1")
    return container.pack(container.Content(metadata, dtype, body))


ROWS = [{"text": f"a text of words {i}", "label": i % 2, "other": i / 4} for i in range(8)]
LINES = "".join(f"{json.dumps(row)}\n" for row in ROWS).encode()


def tables() -> dict[str, bytes]:
    """The same rows in every format, by ending."""
    import io

    import pyarrow
    from pyarrow import parquet

    separated = [[*map(str, row)] for row in ([*ROWS[0]], *(row.values() for row in ROWS))]
    out = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), out, compression="snappy")
    return {
        ".jsonl": LINES,
        ".jsonl.gz": gzip.compress(LINES, mtime=0),
        ".json": LINES,
        ".csv": "\n".join(map(",".join, separated)).encode(),
        ".tsv": "\n".join(map("\t".join, separated)).encode(),
        ".parquet": out.getvalue(),
    }


def task(folder: Path) -> Prepared:
    """The training split of a data folder."""
    from d90.tasks import load_task

    (folder / "validation.jsonl").write_bytes(LINES)

    def read(path: Path) -> None:
        load_task(folder).digest()

    return Prepared({f"train{ending}": data for ending, data in tables().items()}, read)


def examples(folder: Path) -> Prepared:
    """The file of `d90 predict --input`."""
    from d90.adapters import TaskInfo
    from d90.cli.predictions import FORMATS, read_examples, to_rows

    task = TaskInfo("toy", ("text",), ("a", "b"), 16, "accuracy", 0.5)

    def read(path: Path) -> None:
        found = read_examples((), path, task.text_columns, task)
        rows = to_rows(found[:20], [(0.5, 0.5)] * len(found[:20]), task)
        for write in FORMATS.values():
            write(rows).encode()

    files = {f"input{ending}": data for ending, data in tables().items()}
    return Prepared({**files, "input.txt": b"a text\nanother text\n\nthe last"}, read)


def summary(folder: Path) -> Prepared:
    """`summary.json`: what is accepted can be written and read again, to the same text."""
    from d90.search.summary import Summary

    def read(path: Path) -> None:
        text = Summary.load(path).to_json()
        assert Summary.from_json(text).to_json() == text, "not the same when read again"

    kinds = {"full": _study(), "empty": replace(_study(), d90=None, interval=None, trials=())}
    return Prepared({f"{name}.json": kinds[name].to_json().encode() for name in kinds}, read)


def _study() -> Any:
    from tests.helpers.studies import runs

    from d90.search.subspace_config import SubspaceConfig
    from d90.search.summary import Summary

    return Summary(
        model="model",
        task="task",
        subspace=SubspaceConfig(),
        D=1000,
        majority=0.5,
        status="ok",
        m=3,
        family="bert",
        examples={"train": 96, "validation": 64},
        full_metric=0.8,
        threshold=0.72,
        d90=100,
        interval=(30, None),
        warnings=("a warning",),
        trials=tuple(runs((10, 100), rates=(0.01,))),
        settings={"dims": [10, 100], "store": {"url": "sqlite:///d90.db"}},
        command="d90 measure model task",
        versions={"torch": "2.11"},
        started="2026-01-01T00:00:00+00:00",
    )


def config(folder: Path) -> Prepared:
    """`--config` of `d90 measure` and `d90 pretrain`, up to the values of the options."""
    from typer.main import get_command

    from d90.cli import UsageError, app
    from d90.cli.config import read_defaults

    commands: Any = vars(get_command(app))["commands"]
    arguments = {"measure": ["model", "task"], "pretrain": ["corpus", "--output", "out"]}

    def read(path: Path) -> None:
        command = commands[path.stem]
        context = command.context_class(command, info_name=path.stem)
        try:
            with context.scope(cleanup=False):
                read_defaults(context, path)
                command.parse_args(context, list(arguments[path.stem]))
        except UsageError as error:
            raise D90Error(error) from error

    lines = {
        "measure": 'dims = [30, 100]\nlearning-rates = "1e-2,1e-3"\nseeds = [0]\nepochs = 2\n'
        'projection = "onehot"\noutput = "out"\nquiet = true\ntext-columns = ["text"]\n'
        'store = "postgresql://me:secret@host/d90"\nmax_length = 16\n',
        "pretrain": 'max-steps = 10\nlearning-rate = 1e-3\ncheckpoints = [1, 2]\nsize = "micro"\n',
    }
    return Prepared({f"{name}.toml": text.encode() for name, text in lines.items()}, read)


def checkpoint(folder: Path) -> Prepared:
    """Checkpoints of both kinds of runs, up to the state of the optimizer."""
    from tests.fuzz.loops import pretraining, training

    loops = {"training.safetensors": training(), "pretraining.safetensors": pretraining()}
    files: dict[str, bytes] = {}
    for name, loop in loops.items():
        loop.save(folder / name)
        files[name] = (folder / name).read_bytes()
        (folder / name).unlink()

    def read(path: Path) -> None:
        loop = loops[path.name]
        loop.resume(path)
        json.dumps(loop.state.to_json())
        with suppress(FloatingPointError):  # It ends a run as diverged.
            loop.optimizer_step()
        loop.optimizer.zero_grad()

    return Prepared(files, read)


def pretraining(folder: Path) -> Prepared:
    """The folder of a pretraining run: its JSON and its token files."""
    from d90.pretraining import checkpoints
    from d90.pretraining.checkpoints import Evaluation
    from d90.pretraining.dataset import PARTS, Corpus, open_blocks, token_file
    from d90.pretraining.summary import Summary

    corpus = Corpus(9, 3, 200, 40, 999, "0" * 64, 300, "1" * 64)
    history = tuple(Evaluation(step, step * 8, 1.5, 2.5, 1.0) for step in (0, 5, 10))
    written = Summary({"max_steps": 10}, corpus, 1000, "d90 pretrain", {}, "2026-01-01")
    object.__setattr__(written, "history", history)
    written.save(folder)
    corpus.save(folder)
    for part, count in zip(PARTS, (corpus.tokens, corpus.validation_tokens), strict=True):
        token_file(folder, part).write_bytes(b"\x07\x00" * count)
    (folder / "checkpoints" / "step-00000005").mkdir(parents=True)
    files = {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}

    def read(path: Path) -> None:
        for name, data in files.items():
            if name != path.name:
                (folder / name).write_bytes(data)
        checkpoints.checkpoints(folder)
        checkpoints.history(folder)
        Summary.load(folder)
        found = Corpus.load(folder)
        assert found is not None
        for part in PARTS:
            blocks = open_blocks(folder, part, found, 16, 0, 0.01)
            blocks.rows([0, len(blocks) - 1])

    return Prepared(files, read, lambda rng, data: _json_or_bytes(rng, data))


def _json_or_bytes(rng: random.Random, data: bytes) -> bytes:
    return (MUTATORS[".json"] if data.startswith(b"{") else mutate_bytes)(rng, data)


def corpus(folder: Path) -> Prepared:
    """Documents to pretrain on, in every format."""
    from d90.pretraining.corpus import documents, open_corpus

    def read(path: Path) -> None:
        for document in documents(open_corpus([str(path)]), 1000):
            document.encode()

    text = b"a document\nof two lines\n\nanother one\n" * 3
    formats = {".txt": text, ".txt.gz": gzip.compress(text, mtime=0)}
    rows = {key: data for key, data in tables().items() if key in (".jsonl", ".parquet")}
    rows[".jsonl.gz"] = gzip.compress(LINES, mtime=0)
    return Prepared({f"corpus{key}": data for key, data in {**formats, **rows}.items()}, read)


def model_fields(folder: Path) -> Prepared:
    """The file of `d90 pretrain --model-config`."""
    from d90.pretraining.model import complete
    from d90.pretraining.model_sizes import get_model_size, read_fields

    fields = {**get_model_size("micro").fields(32), "vocab_size": 300, "model_type": "roberta"}
    text = "\n".join(f"{name} = {json.dumps(value)}" for name, value in fields.items())

    def read(path: Path) -> None:
        json.dumps(complete(read_fields(path), 32))

    files = {"config.json": json.dumps(fields, indent=2).encode(), "config.toml": text.encode()}
    return Prepared(files, read)


def model_index(folder: Path) -> Prepared:
    """`model.safetensors.index.json`, which transformers follows."""
    from d90.models import loading

    source = loading.ModelSource(str(folder))
    weights = {"a.weight": "model-00001-of-00002.safetensors", "b": "model-00002.safetensors"}
    content = {"metadata": {"total_size": 100}, "weight_map": weights}

    def read(path: Path) -> None:
        with loading.guarded("model", source):
            loading._check_weight_files("model", source)
        names = json.loads(path.read_text("utf-8-sig"))["weight_map"].values()
        assert all(Path(name).name == name and name.endswith(".safetensors") for name in names)

    return Prepared({"model.safetensors.index.json": json.dumps(content).encode()}, read)


def model(folder: Path) -> Prepared:
    """The configuration and the tokenizer of a model: all of it but its weights."""
    from tests.helpers import tiny

    from d90.models import loading
    from d90.pretraining.tokenizer import load_tokenizer

    tiny.write_tiny_model(folder)
    tokenizer = tiny.tokenizer()
    tokenizer.mask_token = tokenizer.unk_token
    tokenizer.save_pretrained(folder)
    names = ("config.json", "tokenizer.json", "tokenizer_config.json")
    files = {name: (folder / name).read_bytes() for name in names}

    def read(path: Path) -> None:
        for name, data in files.items():
            if name != path.name:
                (folder / name).write_bytes(data)
        if path.name == "config.json":
            loading.load_meta(str(folder), num_labels=2)
        else:
            load_tokenizer(folder)("good text")

    return Prepared(files, read)


def gguf(folder: Path) -> Prepared:
    """A GGUF file: its metadata and the table of its tensors."""
    from tests.helpers import tiny_gguf

    from d90.models import loading

    tiny_gguf.write_gguf(folder / "valid.gguf", tiny_gguf.tiny_llama())
    valid = (folder / "valid.gguf").read_bytes()
    (folder / "valid.gguf").unlink()
    start = valid.index(b"ffn_down")  # of the first layer: a part of the table comes after it

    def mutate(rng: random.Random, data: bytes) -> bytes:
        return mutate_bytes(rng, data[:start]) + data[start:]

    def read(path: Path) -> None:
        loading.load(str(path), num_labels=None)

    return Prepared({"tiny.gguf": valid}, read, mutate)


def chat_template(folder: Path) -> Prepared:
    """A chat template, which is rendered."""
    from tests.helpers import tiny

    from d90.tasks.completions import read_template, use_template

    template = (
        "{% for message in messages %}{{ message['role'] + ': ' + message['content'] }}\n"
        "{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
    )
    tokenizer = tiny.tokenizer()

    def read(path: Path) -> None:
        use_template(tokenizer, read_template(str(path)), [("user", "good", "assistant", "bad")])

    return Prepared({"chat.txt": template.encode()}, read)


def lock(folder: Path) -> Prepared:
    """A lock file: what it says of its owner is printed."""
    from tests.fuzz.harness import flaw

    from d90.storage.locks import base, file

    def read(path: Path) -> None:
        message = str(base.busy("study 'x'", file._owner(path.read_bytes())))
        assert flaw(message) is None, message

    owner = {"pid": 4711, "host": "a-host"}
    return Prepared({"owner.json": json.dumps(owner).encode()}, read)


def gpu_study(folder: Path) -> Prepared:
    """The lines that `benchmarks.gpu_study run` writes."""
    from benchmarks import gpu_study

    results = _study().trials
    header = {name: {} for name in gpu_study.HEADER} | {"started": "2026-01-01"}
    trials = [{"method": "did", "result": r.to_json(), "finished": "2026-01-01"} for r in results]
    content = "".join(json.dumps(line) + "\n" for line in (header, *trials)).encode()

    def read(path: Path) -> None:
        recorded = gpu_study.read(path)
        json.dumps([recorded.header, recorded.finished, *map(_plain, recorded.results)])

    return Prepared({"study.jsonl": content}, read)


def _plain(pair: tuple[str, Any]) -> list[Any]:
    return [pair[0], asdict(pair[1].trial), pair[1].to_json()]


READERS: dict[str, Reader] = {
    "adapter": Reader(("adapters.container",), 340, adapter),
    "task": Reader(("tasks.local",), 70, task),
    "examples": Reader(("cli.predictions",), 130, examples),
    "summary": Reader(("search.summary",), 100, summary),
    "config": Reader(("cli.config",), 50, config),
    "checkpoint": Reader(("training.checkpoint",), 40, checkpoint),
    "pretraining": Reader(("pretraining.checkpoints", "pretraining.dataset"), 6, pretraining),
    "corpus": Reader(("pretraining.corpus",), 130, corpus),
    "model-fields": Reader(("pretraining.model_sizes",), 15, model_fields),
    "model-index": Reader(("models.loading",), 100, model_index),
    "model": Reader(("models.loading", "pretraining.tokenizer"), 1, model),
    "gguf": Reader(("models.gguf",), 4, gguf),
    "chat-template": Reader(("tasks.completions",), 10, chat_template),
    "lock": Reader(("storage.locks.file",), 10, lock),
    "gpu-study": Reader(("benchmarks.gpu_study",), 8, gpu_study),
}
"""By the name that `--reader` takes."""


def shares(runs: int, names: Iterator[str] | list[str]) -> dict[str, int]:
    """How many of the inputs each reader gets: at least one."""
    chosen = [*names]
    total = sum(READERS[name].share for name in chosen)
    return {name: max(round(runs * READERS[name].share / total), 1) for name in chosen}
