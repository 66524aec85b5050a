"""A tokenizer for every text, in the form of RoBERTa's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.helpers import tiny
from transformers import AutoTokenizer, RobertaTokenizer

from d90.errors import D90Error
from d90.pretraining.tokenizer import (
    MIN_VOCABULARY,
    backend,
    encoder,
    load_tokenizer,
    save_tokenizer,
    train_tokenizer,
    vocabulary,
)

from .conftest import texts

ODD = ["", "naïve — 漢字 🙂", "tab\tand\x00nul", "<mask> and </s> in a text", " \u00a0spaces  "]


def test_round_trip_of_any_text() -> None:
    encode = encoder(train_tokenizer(texts(50), 300))
    for text in ODD:
        tokens = encode.encode(text, add_special_tokens=False)
        assert encode.decode(tokens.ids, skip_special_tokens=False) == text
        assert not {*tokens.ids} & {*range(5)}


def test_it_learns_whole_words_and_is_the_same_twice() -> None:
    first, second = (train_tokenizer(texts(100), 300) for _ in range(2))
    assert len(first) == 300
    assert backend(first).to_str() == backend(second).to_str()
    assert first.tokenize("the river flows") == ["the", "Ġriver", "Ġflows"]
    known = vocabulary(first)
    assert (known.start, known.pad, known.end, known.mask) == (0, 1, 2, 4)
    assert known.special == (0, 1, 2, 3, 4)


def test_a_small_corpus_gives_fewer() -> None:
    assert MIN_VOCABULARY <= len(train_tokenizer(["ab ab"], 5000)) < 280
    with pytest.raises(D90Error, match="vocab_size 260: at least 261"):
        train_tokenizer(["ab"], 260)


def test_a_folder_for_autotokenizer(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(texts(50), 300)
    save_tokenizer(tokenizer, tmp_path, 126)
    found = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    assert isinstance(found, RobertaTokenizer)
    assert found.model_max_length == 126
    ids = found("the cat", "the dog").input_ids
    assert ids == tokenizer("the cat", "the dog").input_ids
    assert [ids[0], ids[-1], ids.count(2)] == [0, 2, 3]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert len(load_tokenizer(tmp_path)) == len(tokenizer)


def test_folders_that_are_no_use(tmp_path: Path, tiny_folder: Path) -> None:
    with pytest.raises(D90Error, match=r"expected a folder with a tokenizer\.json"):
        load_tokenizer(tmp_path)
    with pytest.raises(D90Error, match="has no mask_token"):
        load_tokenizer(tiny_folder)
    (tmp_path / "tokenizer.json").write_text(json.dumps({"version": "1.0"}))
    with pytest.raises(D90Error, match="cannot be loaded"):
        load_tokenizer(tmp_path)


TEMPLATE = {
    "type": "TemplateProcessing",
    "single": [
        {"SpecialToken": {"id": "[NONE]", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
    ],
    "pair": [{"Sequence": {"id": name, "type_id": 0}} for name in "AB"],
    "special_tokens": {},
}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("post_processor", TEMPLATE, "no entry found for key"),
        ("model", {"type": "WordLevel", "vocab": {"z": 0}, "unk_token": "[NONE]"}, "Missing"),
    ],
)
def test_mistakes_that_show_only_when_it_encodes(
    tmp_path: Path, key: str, value: object, message: str
) -> None:
    """The first one ends in a failed assertion of Rust, which is no `Exception`."""
    tiny.tokenizer().save_pretrained(tmp_path)
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), key: value}))
    AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    with pytest.raises(D90Error, match=f"^tokenizer '.*' cannot be loaded: .*{message}"):
        load_tokenizer(tmp_path)
