"""load_task on folders where every row is known, and its errors."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from d90.errors import D90Error
from d90.tasks import Split, Task, load_task

Rows = list[dict[str, Any]]

TRAIN: Rows = [
    {"premise": 'He said "go", then left.', "hypothesis": "He left.", "label": 1},
    {"premise": "Größe, naïve", "hypothesis": "Tall", "label": 0},
    {"premise": "x", "hypothesis": "", "label": 1},
]
VALIDATION: Rows = [{"premise": "a", "hypothesis": "b", "label": 0}]


def write(path: Path, rows: Rows) -> None:
    """Write rows in the format of the path's ending."""
    if path.suffix == ".parquet":
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif path.suffix == ".tsv":
        lines = ["\t".join(rows[0])] + ["\t".join(map(str, row.values())) for row in rows]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    elif path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    else:
        text = "".join(json.dumps(row) + "\n" for row in rows)
        path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


def folder_of(tmp_path: Path, train: Rows, validation: Rows, ending: str = ".jsonl") -> Path:
    write(tmp_path / f"train{ending}", train)
    write(tmp_path / f"validation{ending}", validation)
    return tmp_path


def labeled(*labels: Any) -> Rows:
    return [{"text": f"text {i}", "label": label} for i, label in enumerate(labels)]


def message(folder: Path | str, **options: Any) -> str:
    """The error of load_task, which must be one line."""
    with pytest.raises(D90Error) as raised:
        load_task(folder, **options)
    text = str(raised.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".json", ".csv", ".tsv", ".parquet"])
def test_every_format_gives_the_same_task(tmp_path: Path, ending: str) -> None:
    folder = folder_of(tmp_path, TRAIN, VALIDATION, ending)
    assert load_task(folder) == Task(
        name=str(folder),
        text_columns=("premise", "hypothesis"),
        labels=("0", "1"),
        metric="accuracy",
        train=Split(
            texts=tuple((row["premise"], row["hypothesis"]) for row in TRAIN), labels=(1, 0, 1)
        ),
        evaluation={"validation": Split(texts=(("a", "b"),), labels=(0,))},
    )


def test_csv_fields_with_line_breaks_and_a_byte_order_mark(tmp_path: Path) -> None:
    text = '\ufefftext,label\n"two\nlines",0\nb,1\n\n'
    for split in ("train", "validation"):
        (tmp_path / f"{split}.csv").write_text(text, encoding="utf-8")
    assert load_task(tmp_path).train.texts == (("two\nlines",), ("b",))


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (("sentence1", "sentence2"), ("sentence1", "sentence2")),
        (("question1", "question2"), ("question1", "question2")),
        (("sentence", "question"), ("question", "sentence")),
        (("hypothesis", "idx", "premise"), ("premise", "hypothesis")),
        (("text", "title"), ("text",)),
        (("sentence",), ("sentence",)),
        (("gloss",), ("gloss",)),
    ],
)
def test_text_columns_are_found_by_name(
    tmp_path: Path, columns: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    rows = [{**dict.fromkeys(columns, "words"), "label": label} for label in (0, 1)]
    assert load_task(folder_of(tmp_path, rows, rows)).text_columns == expected


def test_columns_can_be_given(tmp_path: Path) -> None:
    rows = [{"body": f"b{i}", "text": f"t{i}", "stars": i} for i in range(2)]
    task = load_task(
        folder_of(tmp_path, rows, rows), text_columns=("body", "text"), label_column="stars"
    )
    assert task.train == Split(texts=(("b0", "t0"), ("b1", "t1")), labels=(0, 1))
    assert load_task(tmp_path, text_columns="body", label_column="stars").text_columns == ("body",)


def test_names_are_numbered_in_alphabetical_order(tmp_path: Path) -> None:
    task = load_task(folder_of(tmp_path, labeled("good", "bad", "ugly"), labeled("ugly")))
    assert task.labels == ("bad", "good", "ugly")
    assert task.train.labels == (1, 0, 2)
    assert task.evaluation["validation"].labels == (2,)


def test_integer_labels_sort_as_numbers(tmp_path: Path) -> None:
    task = load_task(folder_of(tmp_path, labeled(*range(12)), labeled(10), ".csv"))
    assert task.labels == tuple(str(number) for number in range(12))
    assert task.evaluation["validation"].labels == (10,)


def test_booleans_are_0_and_1(tmp_path: Path) -> None:
    task = load_task(folder_of(tmp_path, labeled(True, False), labeled(True)))
    assert task.train.labels == (1, 0)


def test_matched_and_mismatched_files_are_two_evaluation_splits(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", labeled(0, 1))
    write(tmp_path / "validation_mismatched.jsonl", labeled(1))
    write(tmp_path / "validation_matched.jsonl", labeled(0))
    task = load_task(tmp_path)
    assert list(task.evaluation) == ["matched", "mismatched"]
    assert task.primary == "matched"


def test_majority_is_the_fraction_of_the_most_frequent_class(tmp_path: Path) -> None:
    task = load_task(folder_of(tmp_path, labeled(0, 1, 1, 2), labeled(2)))
    assert task.train.majority == 0.5
    assert task.evaluation["validation"].majority == 1.0


def test_limits_keep_a_subset_of_what_larger_limits_keep(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, labeled(*[0, 1] * 50), labeled(*[0, 1] * 20))
    kept = [
        {row for (row,) in load_task(folder, max_train_samples=limit).train.texts}
        for limit in (10, 30)
    ]
    assert [len(rows) for rows in kept] == [10, 30]
    assert kept[0] < kept[1]
    assert len(load_task(folder, max_eval_samples=7).evaluation["validation"]) == 7
    assert load_task(folder, max_train_samples=100) == load_task(folder)
    assert load_task(folder, max_train_samples=10) != load_task(
        folder, max_train_samples=10, seed=1
    )


def test_tasks_that_differ_have_different_digests(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, labeled(0, 1), labeled(0))
    before = load_task(folder).digest()
    assert before == load_task(folder).digest()
    assert before != load_task(folder, metric="f1").digest()
    write(folder / "validation.jsonl", labeled(1))
    assert before != load_task(folder).digest()


def test_unknown_names_get_the_nearest_one(tmp_path: Path) -> None:
    assert "unknown task or folder 'mprc': did you mean 'mrpc'?" in message("mprc")
    folder = folder_of(tmp_path, TRAIN, VALIDATION)
    assert "'premis': did you mean 'premise'?" in message(folder, text_columns=["premis"])
    assert "'lable': did you mean 'label'?" in message(folder, label_column="lable")
    assert "did you mean 'accuracy'?" in message(folder, metric="acuracy")


def test_missing_folder_and_files(tmp_path: Path) -> None:
    assert "no such folder" in message(tmp_path / "nowhere")
    assert "no such folder" in message("./mrpc-that-is-not-here")
    write(tmp_path / "train.jsonl", TRAIN)
    write(tmp_path / "dev.jsonl", VALIDATION)
    text = message(tmp_path)
    assert "no validation file" in text
    assert "found dev.jsonl, train.jsonl" in text
    write(tmp_path / "train.csv", TRAIN)
    assert "two files for train" in message(tmp_path)


def test_columns_that_are_not_found(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, [{"words": "a", "kind": 1}], [{"words": "a", "kind": 1}])
    assert "which has words, kind: name one or two of them in text_columns" in message(folder)
    text = message(folder, text_columns=["words"])
    assert "which has words, kind: name another in label_column. Classification needs" in text
    assert "regression needs a label that is a decimal number" in text
    assert "one or two columns, got 3" in message(folder, text_columns=["a", "b", "c"])


def test_a_column_missing_in_validation_only(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, labeled(0, 1), [{"sentence": "a", "label": 0}])
    text = message(folder)
    assert "validation.jsonl" in text
    assert "'text'" in text


@pytest.mark.parametrize(
    ("train", "validation", "expected"),
    [
        ((0, None), (0,), "train.jsonl, row 2: missing label"),
        ((0, ""), (0,), "train.jsonl, row 2: missing label"),
        ((0, 1), (1, float("nan")), "validation.jsonl, row 2: missing label"),
        ((0, 0.5), (0,), "row 2: 0.5 is not an integer or name"),
        ((0, 1), (0, -1), "validation.jsonl, row 2: label -1 is out of range (-1 marks a hidden"),
        ((0, 1), (2,), "label 2 is out of range, expected 0..1"),
        ((0, 1), ("yes",), "label 'yes' is out of range, expected 0..1"),
        ((1, 2), (1,), "must be 0..1 for 2 classes, got 1, 2"),
        ((-1, 0, 1), (1,), "must be 0..2 for 3 classes, got -1, 0, 1"),
        (("no", "yes"), ("yess",), "did you mean 'yes'?"),
        (("no", "yes"), (1,), "label 1 is out of range, expected one of the names in train"),
        ((0, "yes"), (0,), "mixes integers (0) and names (yes)"),
        ((1, 1), (1,), "only one class (1)"),
    ],
)
def test_bad_labels(
    tmp_path: Path, train: tuple[Any, ...], validation: tuple[Any, ...], expected: str
) -> None:
    assert expected in message(folder_of(tmp_path, labeled(*train), labeled(*validation)))


def test_empty_splits_and_limits_that_keep_too_few_rows(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, labeled(0, 1), labeled(0))
    assert "max_train_samples must be at least 1, got 0" in message(folder, max_train_samples=0)
    assert "max_eval_samples must be at least 1, got -5" in message(folder, max_eval_samples=-5)
    assert "max_train_samples 1 keeps only one class" in message(folder, max_train_samples=1)
    (folder / "validation.jsonl").write_text("\n")
    text = message(folder)
    assert "validation.jsonl" in text
    assert "empty split" in text


def test_f1_is_for_two_classes(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, labeled(0, 1, 2), labeled(0))
    assert "use 'macro_f1'" in message(folder, metric="f1")
    assert load_task(folder, metric="macro_f1").metric == "macro_f1"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"text": "a", "label": 0}\n\n{"text": "b" "label": 1}\n', "line 3: not valid JSON"),
        ('["a", 0]\n', 'line 1: expected one JSON object per line, got \'["a", 0]'),
        ('{"text": null, "label": 0}\n{"text": "b", "label": 1}\n', "row 1: no text in column"),
        ('{"text": "a", "label": 0}\n{"text": 7, "label": 1}\n', "row 2: 7, not a string,"),
    ],
)
def test_malformed_json_lines(tmp_path: Path, text: str, expected: str) -> None:
    folder = folder_of(tmp_path, labeled(0, 1), labeled(0))
    (folder / "train.jsonl").write_text(text)
    assert expected in message(folder)


def test_malformed_files_of_the_other_formats(tmp_path: Path) -> None:
    write(tmp_path / "validation.jsonl", labeled(0))
    for ending, content, expected in [
        (".csv", b"text,label\na,0\nb\n", "line 3: 1 fields where the header has 2"),
        (".csv", b'text,label\na,0\n"b,1\n', "line 3: unexpected end of data"),
        (".csv", b"text,label\n\xff,0\n", "not UTF-8"),
        (".parquet", b"PAR2", "not a Parquet file"),
        (".jsonl.gz", b"no gzip", "cannot be read"),
        (".jsonl.gz", gzip.compress(b"cut short")[:-9], "cannot be read"),
    ]:
        path = tmp_path / f"train{ending}"
        path.write_bytes(content)
        assert expected in message(tmp_path)
        path.unlink()
