"""Real data sets, if `../shared/data` exists beside the repository."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from d90.tasks import load_task
from d90.tasks.decoding import GSM8K, find_answer

ANSWERS = re.compile(GSM8K)
DATA = Path(__file__).parents[3] / "shared" / "data"


@pytest.mark.parametrize(
    ("name", "columns", "train", "validation", "majority"),
    [
        ("mrpc", ("sentence1", "sentence2"), 3_668, 408, 0.684),
        ("sst2", ("sentence",), 67_349, 872, 0.509),
        ("anli_dev", ("premise", "hypothesis"), 2_564, 634, 0.372),
        ("mnli_sample", ("premise", "hypothesis"), 1_000, 1_000, 0.346),
        ("yelp_sample", ("text",), 4_484, 4_455, 0.744),
    ],
)
def test_real_folders(
    name: str, columns: tuple[str, ...], train: int, validation: int, majority: float
) -> None:
    folder = DATA / name
    if not folder.is_dir():
        pytest.skip(f"the real data are not here: no {folder}")
    task = load_task(folder)
    assert task.text_columns == columns
    assert len(task.train) == train
    assert len(task.evaluation["validation"]) == validation
    assert task.evaluation["validation"].majority == pytest.approx(majority, abs=5e-4)


def test_every_completion_of_gsm8k_has_a_number_for_its_answer() -> None:
    folder = DATA / "gsm8k"
    if not folder.is_dir():
        pytest.skip(f"the real data are not here: no {folder}")
    task = load_task(folder, answer_pattern=GSM8K)
    assert (task.kind, task.metric, task.text_columns) == ("generation", "exact_match", ("prompt",))
    assert (len(task.train), len(task.evaluation["validation"])) == (7_473, 1_319)
    for split in (task.train, *task.evaluation.values()):
        answers = [find_answer(ANSWERS, text) for text in split.labels]
        assert all(answer and float(answer) is not None for answer in answers)
        assert not any("," in (answer or "") for answer in answers)
