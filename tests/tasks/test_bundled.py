"""The bundled tasks: sizes, class balance, disjoint splits, and how they are packaged."""

from __future__ import annotations

from collections import Counter
from importlib.resources import files

import pytest

from d90.tasks import Task, load_task

BUNDLED = ("wordnet-supersense", "wordnet-hypernym")  # of classification


@pytest.fixture(scope="module", params=BUNDLED)
def task(request: pytest.FixtureRequest) -> Task:
    return load_task(request.param)


@pytest.fixture(scope="module")
def hypernym() -> Task:
    return load_task("wordnet-hypernym")


def test_sizes(task: Task) -> None:
    assert len(task.train) == 8_000
    assert len(task.evaluation["validation"]) == 2_000


def test_classes_are_balanced(task: Task) -> None:
    classes = len(task.labels)
    assert classes == (10 if task.name == "wordnet-supersense" else 2)
    for split in (task.train, task.evaluation["validation"]):
        assert set(Counter(split.labels).values()) == {len(split) // classes}
        assert split.majority == pytest.approx(1 / classes)


def test_no_gloss_is_in_both_splits(task: Task) -> None:
    train, validation = (
        {text for row in split.texts for text in row}
        for split in (task.train, task.evaluation["validation"])
    )
    assert not train & validation


def test_rows_are_unique(task: Task) -> None:
    rows = [*task.train.texts, *task.evaluation["validation"].texts]
    assert len(set(rows)) == len(rows)


def test_glosses_hold_no_example_sentences(task: Task) -> None:
    assert not [text for row in task.train.texts for text in row if '"' in text]


def test_no_single_gloss_of_a_pair_predicts_the_label(hypernym: Task) -> None:
    for split in (hypernym.train, hypernym.evaluation["validation"]):
        for side in (0, 1):
            counts = Counter(
                (row[side], label) for row, label in zip(split.texts, split.labels, strict=True)
            )
            glosses = {row[side] for row in split.texts}
            assert all(counts[gloss, 0] == counts[gloss, 1] for gloss in glosses)


@pytest.fixture(scope="module")
def lemma() -> Task:
    return load_task("wordnet-lemma", metric="exact_match")


def test_a_prompt_and_its_base_form(lemma: Task) -> None:
    train, validation = lemma.train, lemma.evaluation["validation"]
    assert (lemma.kind, len(train), len(validation)) == ("generation", 3_200, 800)
    rows = dict(zip(train.texts, train.labels, strict=True))
    assert rows[("The base form of the adjective bulkier is",)] == " bulky"
    for texts, base in rows.items():
        *start, speech, form, end = texts[0].split()
        assert (" ".join(start), end) == ("The base form of the", "is")
        assert speech in ("noun", "verb", "adjective")
        assert form.isalpha() and base[0] == " " and base[1:].isalpha()


def test_base_forms_are_of_one_split_and_prompts_of_one_row(lemma: Task) -> None:
    train, validation = lemma.train, lemma.evaluation["validation"]
    assert not {*train.labels} & {*validation.labels}
    assert len({*train.texts, *validation.texts}) == len(train) + len(validation)


def test_no_constant_and_no_copy_is_right(lemma: Task) -> None:
    validation = lemma.evaluation["validation"]
    [(_, most)] = Counter(validation.labels).most_common(1)
    copies = [
        text.split()[6] == base[1:]
        for (text,), base in zip(validation.texts, validation.labels, strict=True)
    ]
    assert max(most, sum(copies)) <= 0.01 * len(validation)


def test_known_rows(hypernym: Task) -> None:
    rows = dict(zip(hypernym.train.texts, hypernym.train.labels, strict=True))
    assert hypernym.labels == ("no", "yes")
    assert rows["a water-base paint that has a latex binder",
                "paint in which water is used as the vehicle"] == 1  # fmt: skip
    assert rows["the waterfront of a seaside town",
                "an established line of travel or access"] == 0  # fmt: skip


def test_the_data_are_small_and_include_their_license() -> None:
    data = files("d90.tasks") / "data"
    names = (*BUNDLED, "wordnet-lemma")
    sizes = [len(file.read_bytes()) for name in names for file in (data / name).iterdir()]
    assert sum(sizes) < 1_000_000
    licence = (data / "WORDNET-LICENSE.txt").read_text()
    assert "WordNet 3.0 Copyright 2006 by Princeton University.  All rights reserved." in licence
    assert "Permission to use, copy, modify and distribute" in licence


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("wordnet-supersense", "41ba3efe2cb4163c7b43bb3a42c8c9bf6d625f11d6165898ec5cd7d5cbb92471"),
        ("wordnet-hypernym", "9199ed3ec9cdc51e713791b731bf12e4994c5ce362b1412b950f9b4adb089085"),
        ("wordnet-lemma", "fcf6a9ad8647a0c90ced0177dbe7b7b9674b64495be72f2277c9802dd521c1e8"),
    ],
)
def test_golden_digest(name: str, digest: str) -> None:
    """The bundled data with a limit: changing this changes what recorded studies mean."""
    assert load_task(name, max_train_samples=100, max_eval_samples=100).digest() == digest
