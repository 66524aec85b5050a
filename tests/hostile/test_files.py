"""Data, adapters, summaries, configurations, corpora and stores that are not as d90 writes them."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from tests.hostile.commands import TRAINING
from tests.hostile.ground import Ground, check_refused, run

from d90.adapters import container, load_adapter
from d90.errors import D90Error
from d90.pretraining import corpus
from d90.pretraining.corpus import open_corpus
from d90.tasks import local
from d90.utils import reading

NESTED = "[" * 100_000
DIGITS = "9" * 5000
STUDY = f"--dims 10 {TRAINING} --store s.db --output out".split()
GOOD = '{"text": "good", "label": 1}\n{"text": "bad", "label": 0}\n'

DATA: dict[str, tuple[str, str | bytes, str]] = {
    "digits": ("train.jsonl", f'{{"text": "a", "label": {DIGITS}}}', "5,000 digits"),
    "digits in another column": ("train.jsonl", f'{{"text": "a", "x": {DIGITS}}}', "5,000 digits"),
    "digits as a label": ("train.csv", f"text,label\na,{DIGITS}\nb,0\n", "label|integer"),
    "nested": ("train.jsonl", NESTED, "line 1: not valid JSON .nested too deeply"),
    "nested, closed": ("train.jsonl", NESTED + "]" * 100_000, "line 1: not valid JSON"),
    "surrogate in a text": ("train.jsonl", '{"text": "\\ud800", "label": 0}', "a lone surrogate"),
    "surrogate in a label": ("train.jsonl", '{"text": "a", "label": "\\udfff"}', "lone surrogate"),
    "surrogate in a key": ("train.jsonl", '{"text": "a", "\\ud800": 1}', "a lone surrogate"),
    "two keys": ("train.jsonl", '{"text": "a", "text": "b", "label": 1}', "key 'text' twice"),
    "two columns": ("train.csv", "text,text,label\na,b,1\n", "two columns are called 'text'"),
    "a list": ("train.jsonl", "[1, 2]", "expected one JSON object per line"),
    "no JSON": ("train.jsonl", "text", "line 1: not valid JSON"),
    "UTF-16": ("train.jsonl", GOOD.encode("utf-16"), "not UTF-8|not valid JSON"),
    "bytes": ("train.jsonl", b"\xff\xfe\x00", "not UTF-8 text"),
    "text a number": (
        "train.jsonl",
        '{"text": 3, "label": 0}\n{"text": "b", "label": 1}',
        "3, not",
    ),
    "text null": (
        "train.jsonl",
        '{"text": null, "label": 0}\n{"text": "b", "label": 1}',
        "no text",
    ),
    "label a list": ("train.jsonl", '{"text": "a", "label": []}', "is not an integer or name"),
    "label 1.5": ("train.jsonl", '{"text": "a", "label": 1.5}', "every number in .* is 1.5"),
    "label 0, 1.5": (
        "train.jsonl",
        '{"text": "a", "label": 0}\n{"text": "b", "label": 1.5}',
        "1.5 is not an integer or name",
    ),
    "labels 0.0, 1.0": (
        "train.jsonl",
        '{"text": "a", "label": 0.0}\n{"text": "b", "label": 1.0}',
        "fits no kind of task",
    ),
    "labels 0.5, 1.5 as text": (
        "train.csv",
        "text,label\na,0.5\nb,1.5\n",
        "fits classification and regression",
    ),
    "labels 1.5 and a list": (
        "train.jsonl",
        '{"text": "a", "label": 1.5}\n{"text": "b", "label": []}',
        "row 1: 1.5 is not an integer or name",
    ),
    "labels beyond a double": (
        "train.jsonl",
        '{"text": "a", "label": 1e308}\n{"text": "b", "label": -1.5e308}\n'
        '{"text": "b", "label": 0.5}',
        "mean and std",
    ),
    "label missing": ("train.jsonl", '{"text": "a"}', "no column 'label'|missing label"),
    "label huge": ("train.jsonl", '{"text": "a", "label": 1e999}', "fits no kind of task"),
    "labels of one kind": ("train.jsonl", '{"text": "a", "label": 0}', "only one class"),
    "labels with gaps": (
        "train.jsonl",
        '{"text": "a", "label": 0}\n{"text": "a", "label": 7}',
        "integer labels must be 0..1",
    ),
    "labels mixed": (
        "train.jsonl",
        '{"text": "a", "label": 0}\n{"text": "a", "label": "x"}',
        "mixes integers",
    ),
    "empty": ("train.jsonl", "", "empty split"),
    "only blank lines": ("train.jsonl", "\n\n\n", "empty split"),
    "CSV without rows": ("train.csv", "text,label\n", "empty split"),
    "CSV of too few fields": ("train.csv", "text,label\na\n", "1 fields where the header has 2"),
    "CSV with an open quote": ("train.csv", 'text,label\n"a,1\n', "line|unexpected end"),
    "CSV with a null": ("train.csv", "text,label\na\0,1\n", "line|label|class"),
    "CSV field too long": ("train.csv", f"text,label\n{'a' * 200_000},1\n", "field larger than"),
    "gz of text": ("train.jsonl.gz", GOOD.encode(), "cannot be read"),
    "gz cut off": ("train.jsonl.gz", gzip.compress(GOOD.encode() * 99)[:-9], "cannot be read"),
    "Parquet of text": ("train.parquet", GOOD, "not a Parquet file"),
    "Parquet cut off": ("train.parquet", b"PAR1" + b"\0" * 50, "not a Parquet file"),
    "names of a terminal": (
        "train.jsonl",
        '{"text": "a", "label": "\\u001b[31m"}\n{"text": "a", "label": 5}',
        r"mixes integers .5. and names .\\x1b\[31m",
    ),
    "a long name": (
        "train.jsonl",
        json.dumps({"text": "a", "label": "x" * 700_000}) + '\n{"text": "a", "label": 5}',
        "mixes integers",
    ),
}
"""Name of a file, its content, and what the line says."""


@pytest.mark.parametrize("name", DATA)
def test_data(name: str, ground: Ground, here: Path) -> None:
    file, content, message = DATA[name]
    (here / "data").mkdir()
    data = content.encode() if isinstance(content, str) else content
    (here / "data" / file).write_bytes(data)
    (here / "data" / "validation.jsonl").write_text(GOOD)
    model = str(ground.folder / "model")
    check_refused(run(["measure", model, "./data", *STUDY]), message)


def test_a_line_without_end(here: Path, ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_CHARACTERS", 1000)
    (here / "data").mkdir()
    for name in ("train", "validation"):
        (here / "data" / f"{name}.jsonl.gz").write_bytes(gzip.compress(b" " * 10_000))
    (here / "corpus.txt.gz").write_bytes(gzip.compress(b"x" * 10_000))
    model = str(ground.folder / "model")
    outcome = run(["measure", model, "./data", *STUDY])
    check_refused(outcome, "line 1: longer than 1,000 characters")
    (source,) = open_corpus(["corpus.txt.gz"])
    with pytest.raises(D90Error, match="line 1: longer than 1,000 characters"):
        list(source.documents())


@pytest.mark.parametrize("lines", [b"\n", b"{}\n", GOOD.encode()])
def test_a_bomb_of_short_lines(
    lines: bytes, ground: Ground, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "data").mkdir()
    (here / "data" / "train.jsonl.gz").write_bytes(gzip.compress(lines * 50_000))
    (here / "data" / "validation.jsonl").write_text(GOOD)
    (here / "corpus.txt.gz").write_bytes(gzip.compress(lines * 50_000))
    assert (here / "corpus.txt.gz").stat().st_size < 20_000
    monkeypatch.setattr(reading, "MAX_UNPACKED", 40_000)
    outcome = run(["measure", str(ground.folder / "model"), "./data", *STUDY])
    check_refused(outcome, r"^error: data/train.jsonl.gz: holds more than 40,000 bytes: decompress")
    monkeypatch.setattr(corpus, "MAX_UNPACKED", 40_000)
    (source,) = open_corpus(["corpus.txt.gz"])
    with pytest.raises(D90Error, match=r"corpus.txt.gz: holds more than 40,000 bytes"):
        list(source.documents())


@pytest.mark.parametrize("size", [2, 40_000])
def test_a_compressed_file_may_hold_its_limit(size: int, here: Path) -> None:
    # In two members, as `cat a.gz b.gz` makes them: both count.
    path, half = here / "a.txt.gz", size // 2
    path.write_bytes(gzip.compress(b"x" * half) + gzip.compress(b"x" * (size - half)))
    with reading.open_text(path, unpacked=size) as file:
        assert file.read() == "x" * size
    for read in (lambda file: file.read(), list):
        message = f"holds more than {size - 1:,} bytes"
        with (
            reading.open_text(path, unpacked=size - 1) as file,
            pytest.raises(D90Error, match=message),
        ):
            read(file)


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "parquet"])
def test_a_bomb_of_rows_or_columns(
    ending: str, ground: Ground, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = here / "data" / f"train.{ending}"
    file.parent.mkdir()
    (here / "data" / "validation.jsonl").write_text(GOOD)
    if ending == "parquet":
        parquet.write_table(pa.table({f"c{i}": [0] * 200 for i in range(200)}), file)
    else:  # Every row has a column of its own.
        text = "".join(f'{{"c{i}": 0}}\n' for i in range(200)).encode()
        file.write_bytes(gzip.compress(text) if ending.endswith("gz") else text)
    command = ["measure", str(ground.folder / "model"), "./data", *STUDY]
    monkeypatch.setattr(local, "MAX_VALUES", 200 * 200 - 1)
    check_refused(run(command), "200 rows of 200 columns: give a part of it, or fewer columns")
    monkeypatch.setattr(local, "MAX_ROWS", 199)
    check_refused(run(command), "more than 199 rows: give a part of it")
    monkeypatch.undo()
    assert len(local.read_table(file)) == 200


def test_a_date_out_of_range_in_an_unused_column(ground: Ground, here: Path) -> None:
    table = pa.table(
        {
            "text": ["good", "bad"],
            "label": [1, 0],
            "when": pa.array([2**30, -(2**30)], pa.date32()),
        }
    )
    (here / "data").mkdir()
    for name in ("train", "validation"):
        parquet.write_table(table, here / "data" / f"{name}.parquet")
    adapter, model = str(ground.folder / "a.st"), str(ground.folder / "model")
    outcome = run(["evaluate", adapter, "./data", "--base", model])
    assert outcome.code == 0, outcome


def altered(**metadata: str) -> Callable[[bytes], bytes]:
    """Other metadata, with a valid checksum."""

    def apply(content: bytes) -> bytes:
        found = container.unpack(content)
        changed = {**found.metadata, **metadata}
        return container.pack(container.Content(changed, found.dtype, found.data))

    return apply


ADAPTERS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda _: b"", "it is not an adapter"),
    "text": (lambda _: b"text" * 99, "it is not an adapter"),
    "cut off": (lambda content: content[:-4], "it was altered|cut off"),
    "one bit": (lambda content: content[:-1] + bytes([content[-1] ^ 1]), "it was altered"),
    "more": (lambda content: content + b"\0\0\0\0", "it was altered"),
    "digits": (lambda _: (5000).to_bytes(8, "little") + b"9" * 5000, "its header is not JSON"),
    "nested": (lambda _: (90_000).to_bytes(8, "little") + b"[" * 90_000, "header is not JSON"),
    "bytes of a surrogate": (
        lambda content: content.replace(b"float32", b"\xed\xa0\x80oat", 1),
        "its header is not JSON",
    ),
    "a surrogate": (altered(task="\ud800 text"), "its header is not JSON"),
    "a letter": (altered(task="é text"), "its metadata are not ASCII"),
    "an escaped surrogate": (altered(labels="%ED%A0%80 b"), "its metadata are damaged"),
    "labels of one": (altered(labels="a"), "its columns or labels are damaged"),
    "a forged length": (altered(metric="accuracy 0.5000 99999"), "for 99,999 tokens"),
    "a length of 10^19": (altered(metric=f"accuracy 0.5000 {10**19}"), "tokens"),
    "no length": (altered(metric="accuracy 0.5000 0"), "for 0 tokens"),
    "infinite metric": (altered(metric="accuracy inf 16"), "infinite"),
    "D of 10^19": (altered(space=f"fastfood tensor did layer 50 {10**19} 0 0 0"), "is for D ="),
    "d of 10^9": (altered(space=f"fastfood tensor did layer {10**9} {10**10} 0 0 0"), "bytes of"),
    "m above d": (altered(space="fastfood tensor said layer 50 5554 50 0 0"), "impossible"),
    "unknown projection": (altered(space="magic tensor did layer 50 5554 0 0 0"), "unknown proj"),
    "unknown codec": (altered(code="magic"), "unknown codec"),
    "unknown dtype": (
        lambda content: altered(base=container.unpack(content).metadata["base"] + " float99")(
            content
        ),
        "dtype 'float99'",
    ),
    "another version": (altered(d90="2"), "of version 2"),
}


@pytest.mark.parametrize("name", ADAPTERS)
def test_adapters(name: str, ground: Ground, here: Path) -> None:
    apply, message = ADAPTERS[name]
    (here / "x.st").write_bytes(apply((ground.folder / "a.st").read_bytes()))
    model = str(ground.folder / "model")
    check_refused(run(["predict", "x.st", "good", "--base", model, "-o", "out"]), message)


def test_a_sum_that_overflows(ground: Ground, here: Path) -> None:
    adapter = load_adapter(ground.folder / "a.st")
    huge = np.full(adapter.d, 3e38, np.float32)
    for name in ("a", "b"):
        (here / name).write_bytes(_with_parameters(adapter.to_bytes(), huge))
    outcome = run(["combine", "a", "b", "--reduction", "sum", "-o", "out"])
    check_refused(outcome, "not finite")


def _with_parameters(content: bytes, parameters: np.ndarray) -> bytes:
    found = container.unpack(content)
    return container.pack(container.Content(found.metadata, found.dtype, parameters.tobytes()))


def test_names_are_no_markup(ground: Ground, here: Path) -> None:
    name = "[bold red]x[ ] \x1b[31m:smile:"
    shutil.copy(ground.folder / "a.st", here / name)
    content = altered(labels="%5Bred%5Da%5B/red%5D %1B%5B31mb", task="%5Blink=x%5Dt text")
    (here / "y.st").write_bytes(content((ground.folder / "a.st").read_bytes()))
    shown = run(["inspect", "y.st"])
    assert shown.code == 0 and r"[red]a[/red], \x1b[31mb" in shown.out
    assert "[link=x]t: text" in shown.out
    table = run(["similarity", name, "y.st"])
    assert table.code == 0 and r"[bold red]x[ ] \x1b[31m:smile:" in table.out
    assert "\x1b" not in shown.out + table.out


SUMMARIES = {
    "digits": ("9" * 5000, "5,000 digits"),
    "nested": (NESTED, "nested too deeply"),
    "a list": ("[]", "format 'list'"),
    "empty": ("", "not valid JSON"),
    "a surrogate": ('{"format": 2, "x": "\\ud800"}', "lone surrogate"),
    "keys": ('{"format": 2}', "'trials' is missing"),
    "trials": ('{"format": 2, "trials": {}}', "trials is {}"),
    "format of digits": ('{"format": ' + "1" * 299 + "}", "has format 1"),
    "format a list": ('{"format": [[[]]]}', "has format"),
}


@pytest.mark.parametrize("command", ["report", "generalization"])
@pytest.mark.parametrize("name", SUMMARIES)
def test_summaries(name: str, command: str, here: Path) -> None:
    text, message = SUMMARIES[name]
    (here / "summary.json").write_text(text)
    check_refused(run([command, "summary.json", "--output", "out"]), message)


CONFIGS = {
    "digits": (f"epochs = {DIGITS}", "thousands of digits"),
    "nested": (f"epochs = {NESTED}", "nested too deeply"),
    "tables": ("epochs = " + "{a=" * 50_000, "nested too deeply"),
    "dots": ("epochs" + ".a" * 100_000 + " = 1", "dots in a row"),
    "dots that nest": ("epochs" + ".a" * 999 + " = 1", "nested too deeply"),
    "tables that nest": ("[epochs" + ".a" * 999 + "]", "nested too deeply"),
    "no TOML": ("epochs = = 1", "is not TOML"),
    "bytes": (b"\xff\xfe", "is not UTF-8"),
    "a surrogate": ('model = "\\ud800"', "is not TOML"),
    "unknown": ("epcohs = 3", "did you mean 'epochs'"),
    "a type": ("epochs = [1]", "expected"),
    "a date": ("epochs = 2020-01-01", "expected"),
    "10^400": ("epochs = 1" + "0" * 400, "epochs 1"),
    "inf": ("target-fraction = inf", "target_fraction is inf"),
    "a secret": ('store = ["postgresql://me:s3cr3t@host/d90"]', "expected"),
    "a path": ('output = ""', "the name is empty"),
    "a null": ('output = "a\\u0000b"', "null"),
    "a null store": ('store = "a\\u0000b"', "null"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_configs(name: str, ground: Ground, here: Path) -> None:
    text, message = CONFIGS[name]
    (here / "c.toml").write_bytes(text.encode() if isinstance(text, str) else text)
    names = ground.names()
    options = ["--dims", "10", *TRAINING.split(), "--config", "c.toml"]
    outcome = run(["measure", names["model"], names["task"], *options])
    check_refused(outcome, message)
    assert "s3cr3t" not in outcome.err


MODEL_CONFIGS = {
    "digits.json": (f'{{"hidden_size": {DIGITS}}}', "5,000 digits"),
    "nested.json": (NESTED, "nested too deeply"),
    "list.json": ("[1]", "expected fields"),
    "digits.toml": (f"hidden_size = {DIGITS}", "thousands of digits"),
    "nested.toml": (f"hidden_size = {NESTED}", "nested too deeply"),
    "dots.toml": ("hidden_size" + ".a" * 999 + " = 1", "nested too deeply"),
    "unknown.toml": ("hidden = 3", "unknown field"),
    "type.toml": ('hidden_size = "x"', "model config"),
    "zero.toml": ("num_attention_heads = 0", "model config|heads"),
    "negative.toml": ("num_hidden_layers = -3", "num_hidden_layers|model config"),
    "huge.toml": ("hidden_size = 1" + "0" * 30, "model config|hidden_size"),
    "float.toml": ("hidden_size = nan", "model config"),
    "bool.toml": ("hidden_size = true", "model config|heads"),
}


@pytest.mark.parametrize("name", MODEL_CONFIGS)
def test_configs_of_a_model(name: str, ground: Ground, here: Path) -> None:
    text, message = MODEL_CONFIGS[name]
    (here / name).write_text(text)
    options = f"-o out --model-config {name} --max-steps 4 --max-length 16".split()
    check_refused(run(["pretrain", ground.names()["corpus"], *options]), message)


@pytest.mark.parametrize("file", ["folder", "pipe", "text", "socket", "loop", "folder/"])
def test_stores(file: str, ground: Ground, here: Path) -> None:
    import socket

    (here / "folder").mkdir()
    os.mkfifo(here / "pipe")
    (here / "text").write_text("text" * 99)
    socket.socket(socket.AF_UNIX).bind("socket")
    (here / "loop").symlink_to("loop")
    names = ground.names()
    options = [file if word == "s.db" else word for word in STUDY]
    check_refused(run(["measure", names["model"], names["task"], *options]), "store")


def test_a_store_of_another_program(ground: Ground, here: Path) -> None:
    with sqlite3.connect("s.db") as database:
        database.execute("CREATE TABLE studies (other TEXT)")
    names = ground.names()
    check_refused(run(["measure", names["model"], names["task"], *STUDY]), "store")
