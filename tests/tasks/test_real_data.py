"""Real data sets, if `../shared/data` exists beside the repository."""

from __future__ import annotations

from pathlib import Path

import pytest

from d90.tasks import load_task

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
