"""Digests decide which stored results are reused: their values are frozen."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from d90.tasks.task import Split, Task
from d90.utils.digest import (
    canonical_json,
    json_digest,
    named_tensors_digest,
    state_digest,
    tensor_bytes,
)


def test_json_digests_are_frozen() -> None:
    value = {"b": [1, 2.5, None], "a": "é"}
    assert json_digest(value) == json_digest({"a": "é", "b": (1, 2.5, None)})
    assert json_digest(value).startswith("fc10ba9755cfc69c")


def test_a_task_digest_is_frozen() -> None:
    split = Split([("a", "b"), ("é", "")], [0, 1])
    task = Task("any", ("x", "y"), ("no", "yes"), "accuracy", split, {"validation": split})
    assert task.digest().startswith("a8750ca4dbd6865d")


def test_a_state_digest_is_frozen() -> None:
    model = nn.BatchNorm1d(3)
    assert state_digest(model).startswith("4490dc25ae49eac8")
    assert state_digest(model.bfloat16()) != state_digest(nn.BatchNorm1d(3))


def test_canonical_json_is_strict() -> None:
    assert canonical_json({"b": 1, "a": [1.0]}) == '{"a":[1.0],"b":1}'
    with pytest.raises(ValueError):
        canonical_json(math.nan)
    with pytest.raises(TypeError):
        canonical_json({1, 2})


@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool])
def test_tensor_bytes_are_in_row_major_order(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    tensor = torch.arange(math.prod(shape)).reshape(shape).to(dtype)
    assert len(tensor_bytes(tensor)) == tensor.numel() * tensor.element_size()
    if tensor.ndim == 2:
        assert bytes(tensor_bytes(tensor.T)) == bytes(tensor_bytes(tensor.T.contiguous()))


def test_a_digest_depends_on_names_shapes_and_dtypes() -> None:
    zeros = torch.zeros(4)
    same_bytes = [
        ("a", zeros),
        ("b", zeros),
        ("a", zeros.view(2, 2)),
        ("a", zeros.view(torch.int32)),
    ]
    assert len({named_tensors_digest([named]) for named in same_bytes}) == 4
