"""Cosines and sums of adapters, against hand-computed ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from d90.adapters import Adapter, BaseModelInfo, SubspaceConfig, TaskInfo, new_adapter
from d90.adapters.arithmetic import combine, cosine_similarities
from d90.errors import D90Error

SPACE = SubspaceConfig(method="said", projection="onehot", d=3)
BASE = BaseModelInfo("minilm-l6", "", "ab" * 32, D=1000)
USE = TaskInfo("mrpc", ("a", "b"), ("no", "yes"), 128, "accuracy", 0.79)


def made(*numbers: float, **changes: object) -> Adapter:
    space = replace(SPACE, **changes.pop("space", {}))  # type: ignore[arg-type]
    use = replace(USE, **changes)  # type: ignore[arg-type]
    return new_adapter(np.array(numbers, dtype=np.float32), space, BASE, use, m=1)


def test_cosines_are_of_z_and_of_what_lam_departs_by() -> None:
    found = cosine_similarities([made(3, 4, 1), made(4, -3, 1), made(0, 0, 3), made(-6, -8, 1)])
    expected = [[1, 0, 0, -1], [0, 1, 0, 0], [0, 0, 1, 0], [-1, 0, 0, 1]]
    np.testing.assert_allclose(found, expected, atol=1e-7)


def test_sums_and_means() -> None:
    files = [made(1, 2, 1.5), made(3, -2, 0.5), made(2, 0, 1)]
    assert combine(files, "mean").parameters.tolist() == [2, 0, 1]
    assert combine(files, "sum").parameters.tolist() == [6, 0, 1]
    assert combine([files[0]] * 2, "sum").parameters.tolist() == [2, 4, 2]
    total = combine(files)
    assert (total.subspace, total.base, total.task.labels) == (SPACE, BASE, USE.labels)
    assert np.isnan(total.task.metric_value)


def test_what_has_no_sum() -> None:
    one = made(1, 2, 1)
    for other, message in (
        (made(1, 2, 1, space={"seed": 1}), "do not share a projection"),
        (made(1, 2, 1, labels=("no", "maybe")), "a sum of them has no classes"),
    ):
        with pytest.raises(D90Error, match=message):
            combine([one, other])
    with pytest.raises(D90Error, match="give two or more"):
        combine([one])
    with pytest.raises(D90Error, match="expected mean or sum"):
        combine([one, one], "median")
    with pytest.raises(D90Error, match="has no direction"):
        cosine_similarities([one, made(0, 0, 1)])
