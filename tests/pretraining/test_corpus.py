"""Documents from every kind of source, in a fixed order, without loading it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import datasets
import pandas as pd
import pyarrow
import pytest
from pyarrow import parquet

from d90.errors import D90Error
from d90.pretraining import corpus as module
from d90.pretraining.corpus import documents, open_corpus

TEXT = "\ufeffThe first\n line.  \n\n\n \nThe second.\r\n"
ROWS = [{"text": "a row\nof two lines", "label": 1}, {"text": "a\n\nrow"}, {"text": "  "}]
EXPECTED = ["a row of two lines", "a row"]


def read(*arguments: object, limit: int | None = None) -> list[str]:
    return list(documents(open_corpus([str(argument) for argument in arguments]), limit))


def test_paragraphs_of_text_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(TEXT)
    with gzip.open(tmp_path / "b.txt.gz", "wt") as file:
        file.write("Packed.\n\nToo.")
    assert read(tmp_path / "a.txt") == ["The first line.", "The second."]
    assert read(tmp_path) == ["The first line.", "The second.", "Packed.", "Too."]
    assert read(tmp_path / "b.txt.gz", tmp_path / "a.txt", limit=3) == [
        *("Packed.", "Too.", "The first line."),
    ]


def test_rows(tmp_path: Path) -> None:
    lines = "\n".join(json.dumps(row) for row in ROWS)
    (tmp_path / "a.jsonl").write_text(lines + "\n\n")
    pd.DataFrame(ROWS).to_parquet(tmp_path / "b.parquet")
    assert read(tmp_path / "a.jsonl") == EXPECTED
    assert read(tmp_path / "b.parquet") == EXPECTED


def test_folders_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b/x.txt", "a/y.txt", "c.txt", "a/notes.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    assert read(tmp_path) == ["a/y.txt", "b/x.txt", "c.txt"]


def test_a_very_long_document_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CHARACTERS", 8)
    (tmp_path / "a.txt").write_text("one two\nthree\nfour\nfive six")
    assert read(tmp_path) == ["one two three", "four five six"]


def test_an_identity_is_of_what_is_read_not_of_where(tmp_path: Path) -> None:
    identities = []
    for parent in ("one", "two"):
        folder = tmp_path / parent / "texts"
        folder.mkdir(parents=True)
        (folder / "a.txt").write_text("some text")
        identities.append(open_corpus([str(folder)])[0].identity)
    assert identities[0] == identities[1]
    (folder / "a.txt").write_text("other and longer text")
    assert open_corpus([str(folder)])[0].identity != identities[0]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"text": "x"}\n{', "a.jsonl, line 2: not valid JSON"),
        ("a.jsonl", '{"body": "x"}', "line 1: expected a row whose column 'text' is a string"),
        ("a.jsonl", "[1]", "line 1: expected a row"),
        ("a.parquet", "no", "a.parquet: not a Parquet file"),
        ("a.txt.gz", "no", "a.txt.gz: cannot be read"),
        ("a.txt", b"\xff\xfe\xff", "a.txt: not UTF-8 text"),
        ("a.md", "text", "expected one of the endings .txt, .txt.gz"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    data = content.encode() if isinstance(content, str) else content
    (tmp_path / name).write_bytes(data)
    with pytest.raises(D90Error, match=message):
        read(tmp_path / name)


def test_a_column_of_dates_that_python_lacks_is_refused(tmp_path: Path) -> None:
    dates = pyarrow.table({"text": pyarrow.array([2**60], pyarrow.timestamp("ms"))})
    parquet.write_table(dates, tmp_path / "a.parquet")
    with pytest.raises(D90Error, match=r"a.parquet: expected strings in the column 'text'"):
        read(tmp_path / "a.parquet")


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    table = pyarrow.Table.from_arrays([pyarrow.array(["x"])] * 2, ["text", "text"])
    parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(D90Error, match="two columns are called 'text'"):
        read(tmp_path / "a.parquet")


def test_a_column_of_categories_is_text(tmp_path: Path) -> None:
    texts = pyarrow.array(["one", "two", "one"]).dictionary_encode()
    parquet.write_table(pyarrow.table({"text": texts}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == ["one", "two", "one"]


def test_what_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("x")
    with pytest.raises(D90Error, match=r"no such file or folder\. Did you mean '.*texts.txt'"):
        open_corpus([str(tmp_path / "text.txt")])
    (tmp_path / "empty").mkdir()
    with pytest.raises(D90Error, match="no text in"):
        open_corpus([str(tmp_path / "empty")])
    with pytest.raises(D90Error, match="no corpus"):
        open_corpus([])


def test_hub_data_sets_are_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, given = [], []

    def load_dataset(*arguments: object, **options: object):
        asked.append((*arguments, options))
        for number in range(10**9):
            given.append(number)
            yield {"text": f"row {number}\n\nof text"}

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr("d90.utils.hub.is_reachable", lambda url: True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", False)
    assert read("owner/name:plain", limit=3) == [f"row {i} of text" for i in range(3)]
    assert asked == [("owner/name", "plain", {"split": "train", "streaming": True})]
    assert len(given) <= 4


def test_a_hub_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("d90.utils.hub.is_reachable", lambda url: False)
    with pytest.raises(D90Error, match=r"cannot stream wikitext from .*: .* give text files"):
        read("wikitext")
