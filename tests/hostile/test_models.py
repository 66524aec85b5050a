"""Model folders that are not as transformers expects, or that try to reach out of themselves."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.hostile.commands import TRAINING
from tests.hostile.ground import Ground, check_refused, run
from tests.pretraining.test_tokenizer import TEMPLATE

Break = Callable[[Path], object]

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


def remove(*names: str) -> Break:
    return lambda folder: [(folder / name).unlink() for name in names]


def write(name: str, text: str | bytes) -> Break:
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    return lambda folder: (folder / name).write_bytes(data)


def change(name: str, **values: Any) -> Break:
    """Change keys of a JSON file; `...` removes one."""

    def apply(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        content.update(values)
        content = {key: value for key, value in content.items() if value is not ...}
        (folder / name).write_text(json.dumps(content))

    return apply


def tokens(**values: Any) -> Break:
    """Change keys of the model in tokenizer.json."""

    def apply(folder: Path) -> None:
        file = folder / "tokenizer.json"
        content = json.loads(file.read_text())
        content["model"].update(values)
        file.write_text(json.dumps(content))

    return apply


def shards(*names: str) -> Break:
    """An index that names these files instead of the weights."""

    def apply(folder: Path) -> None:
        (folder / WEIGHTS).rename(folder / "shard.safetensors")
        weights = {f"weight{number}": name for number, name in enumerate(names)}
        index = {"metadata": {"total_size": 1}, "weight_map": weights}
        (folder / INDEX).write_text(json.dumps(index))

    return apply


def both(*breaks: Break) -> Break:
    return lambda folder: [apply(folder) for apply in breaks]


def cut(name: str, size: int) -> Break:
    return lambda folder: os.truncate(folder / name, size)


NESTED = "[" * 100_000
WITHOUT_UNKNOWN = {"type": "WordLevel", "vocab": {"z": 0, "y": 1}, "unk_token": "[NONE]"}

CASES: dict[str, tuple[Break, str]] = {
    # Files that are missing.
    "no config": (remove("config.json"), "has no config.json"),
    "no weights": (remove(WEIGHTS), "has no .safetensors file"),
    "no tokenizer": (remove("tokenizer.json", "tokenizer_config.json"), "no vocabulary|tokenizer"),
    "no tokenizer.json": (remove("tokenizer.json"), "no vocabulary|tokenizer"),
    "only a pickle": (both(remove(WEIGHTS), write("pytorch_model.bin", b"\x80")), "a pickle"),
    # Weights that are elsewhere, or are no safetensors.
    "index of pickles": (shards("pytorch_model.bin"), "index.json names 'pytorch_model.bin'"),
    "index of outside": (shards("../outside.safetensors"), "names '../outside.safetensors'"),
    "index of absolute": (shards("/etc/x.safetensors"), "names '/etc/x.safetensors'"),
    "index of a folder": (shards("a/b.safetensors"), "names 'a/b.safetensors'"),
    "index of numbers": (
        both(shards("x"), change(INDEX, weight_map={"w": 1})),
        "index.json: weight_map is",
    ),
    "index without a map": (both(shards("x"), write(INDEX, "{}")), "'weight_map' is missing"),
    "index of digits": (both(shards("x"), write(INDEX, "9" * 5000)), "5,000 digits"),
    "index nested": (both(shards("x"), write(INDEX, NESTED)), "nested too deeply"),
    "index of nothing there": (shards("gone.safetensors"), "cannot be loaded"),
    "config of a pickle": (
        change("config.json", transformers_weights="adapter_model.bin"),
        "names other weights",
    ),
    "config of other weights": (
        change("config.json", transformers_weights="x.safetensors"),
        "names other weights",
    ),
    "an adapter of PEFT": (write("adapter_config.json", "{}"), "is an adapter of PEFT"),
    "attention from the hub": (
        change("config.json", _attn_implementation="org/kernel"),
        "asks for the attention 'org/kernel'",
    ),
    "code of its own": (
        change("config.json", model_type="mine", auto_map={"AutoConfig": "code.Config"}),
        "cannot be loaded",
    ),
    # Weights that are damaged.
    "weights cut off": (cut(WEIGHTS, 1000), "cannot be loaded"),
    "weights empty": (cut(WEIGHTS, 0), "cannot be loaded"),
    "weights of text": (write(WEIGHTS, "text" * 100), "cannot be loaded"),
    "a header of 2^62 bytes": (
        write(WEIGHTS, (2**62).to_bytes(8, "little") + b"{}"),
        "cannot be loaded",
    ),
    # Configurations.
    "config empty": (write("config.json", ""), "cannot be loaded"),
    "config a list": (write("config.json", "[]"), "cannot be loaded"),
    "config a number": (write("config.json", "3"), "cannot be loaded"),
    "config of digits": (write("config.json", '{"x": ' + "9" * 5000 + "}"), "cannot be loaded"),
    "config nested": (write("config.json", NESTED), "cannot be loaded"),
    "config no UTF-8": (write("config.json", b"\xff\xfe"), "cannot be loaded"),
    "config without a kind": (change("config.json", model_type=...), "cannot be loaded"),
    "unknown kind": (change("config.json", model_type="nothing"), "cannot be loaded"),
    "no classifier": (change("config.json", model_type="clip"), "cannot be loaded"),
    "hidden_size 0": (change("config.json", hidden_size=0), "cannot be loaded"),
    "hidden_size -1": (change("config.json", hidden_size=-1), "cannot be loaded"),
    "hidden_size text": (change("config.json", hidden_size="x"), "cannot be loaded"),
    "hidden_size 2^63": (change("config.json", hidden_size=2**63), "cannot be loaded"),
    "hidden_size other": (change("config.json", hidden_size=18), "do not match its config.json"),
    "heads 0": (change("config.json", num_attention_heads=0), "cannot be loaded"),
    "heads 3": (change("config.json", num_attention_heads=3), "cannot be loaded"),
    "10^9 layers": (change("config.json", num_hidden_layers=10**9), "num_hidden_layers"),
    "501 layers": (change("config.json", num_hidden_layers=501), "num_hidden_layers"),
    "layers text": (change("config.json", num_hidden_layers="2"), "cannot be loaded"),
    "layers more": (change("config.json", num_hidden_layers=3), "do not match its config.json"),
    "vocab_size less": (change("config.json", vocab_size=5), "do not match its config.json"),
    "vocab_size null": (change("config.json", vocab_size=None), "cannot be loaded"),
    "activation": (change("config.json", hidden_act="explode"), "cannot be loaded"),
    "dropout": (change("config.json", hidden_dropout_prob=7), "cannot be loaded"),
    "labels": (change("config.json", id2label=[1, 2]), "cannot be loaded"),
    "dtype": (change("config.json", dtype="float99"), "cannot be loaded"),
    # Tokenizers.
    "tokenizer empty": (write("tokenizer.json", ""), "cannot be loaded"),
    "tokenizer {}": (write("tokenizer.json", "{}"), "cannot be loaded"),
    "tokenizer nested": (write("tokenizer.json", NESTED), "cannot be loaded"),
    "tokenizer of digits": (write("tokenizer.json", "9" * 5000), "cannot be loaded"),
    "tokenizer without words": (tokens(vocab={}), "cannot be loaded|no vocabulary"),
    "only special tokens": (
        tokens(vocab={"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3}),
        "no vocabulary",
    ),
    "ids beyond the table": (
        tokens(vocab={"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "good": 10**6}),
        "1000001 tokens and its embedding table only 14 rows",
    ),
    "negative ids": (tokens(vocab={"good": -1}), "cannot be loaded"),
    "a template of an unknown token": (
        change("tokenizer.json", post_processor=TEMPLATE),
        "cannot be loaded: .*no entry found for key",
    ),
    "an unknown word that is none": (
        change("tokenizer.json", model=WITHOUT_UNKNOWN),
        "cannot be loaded: .*Missing",
    ),
    "tokenizer kind": (tokens(type="Nothing"), "cannot be loaded"),
    "tokenizer config a list": (write("tokenizer_config.json", "[]"), "cannot be loaded"),
    "tokenizer config nested": (write("tokenizer_config.json", NESTED), "cannot be loaded"),
    "length text": (change("tokenizer_config.json", model_max_length="x"), "cannot be loaded"),
    "length null": (change("tokenizer_config.json", model_max_length=[]), "cannot be loaded"),
    "length 0": (change("tokenizer_config.json", model_max_length=0), "takes at most 0 tokens"),
    "length -5": (change("tokenizer_config.json", model_max_length=-5), "takes at most -5"),
    "length nan": (change("tokenizer_config.json", model_max_length=float("nan")), "cannot be"),
}
"""What is done to a good folder, and what the line says."""


@pytest.mark.parametrize("name", CASES)
def test_model_folders(name: str, ground: Ground, here: Path) -> None:
    apply, message = CASES[name]
    shutil.copytree(ground.folder / "model", here / "model")
    apply(here / "model")
    options = ["--dims", "10", *TRAINING.split(), "--store", "s.db"]
    check_refused(run(["measure", "model", str(ground.folder / "task"), *options]), message)


def test_no_code_of_a_folder_runs(ground: Ground, here: Path) -> None:
    shutil.copytree(ground.folder / "model", here / "model")
    (here / "model" / "code.py").write_text(f"open({str(here / 'ran')!r}, 'w')")
    auto = {"AutoConfig": "code.C", "AutoModelForSequenceClassification": "code.M"}
    change("config.json", auto_map=auto)(here / "model")
    change("tokenizer_config.json", auto_map={"AutoTokenizer": ["code.T", None]})(here / "model")
    run(["merge", str(ground.folder / "a.st"), "--base", "model", "-o", "out"])
    assert not (here / "ran").exists()
