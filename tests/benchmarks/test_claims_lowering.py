"""The variants of the subspace that claim 5 compares."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from benchmarks.claims.lowering import (
    VARIANTS,
    damped,
    gradient_policy,
    gradient_scales,
    registered,
)

from d90.errors import D90Error
from d90.experiments.problem import load_problem
from d90.search.subspace_config import SubspaceConfig
from d90.subspace import SCALES, attach
from d90.subspace.layout import find_params


def test_gradient_scales_by_hand() -> None:
    """Two tensors of 4 and 12 entries move together as far as by `tensor`: N s^2 adds up to 2 D."""
    scales = gradient_scales([3.0, 4.0], [4, 12])
    moved = [4 * scales[0] ** 2, 12 * scales[1] ** 2]
    assert sum(moved) == pytest.approx(32)
    assert moved[0] / moved[1] == pytest.approx(9 / 16)


def test_damped_by_hand() -> None:
    tensors = [torch.zeros(4, 4), torch.zeros(4), torch.zeros(2, 4)]
    scales = damped(tensors, [False, False, True])
    assert scales == pytest.approx([0.2 * math.sqrt(28 / 16), math.sqrt(7), math.sqrt(28 / 8)])


def test_every_variant_moves_a_model(tiny_folder: Path, toy_folder: Path) -> None:
    problem = load_problem(str(tiny_folder), toy_folder, max_length=16)
    policy = gradient_policy(problem)
    before = dict(SCALES)
    with registered({"damped": damped, "gradient": policy}):
        for variant in VARIANTS.values():
            model = load_problem(str(tiny_folder), toy_folder, max_length=16).runner.model
            subspace = attach(
                model,
                d=60,
                method=variant.method,
                groups=variant.groups,
                projection=variant.projection,
                scale=variant.scale,
            )
            assert subspace.layout.D == problem.D
    assert before == SCALES
    with pytest.raises(D90Error, match="gradient"):
        SubspaceConfig(scale="gradient")


def test_the_gradient_decides_how_far_a_tensor_moves(tiny_folder: Path, toy_folder: Path) -> None:
    """In its order of tensors: those of a head with a gradient of 0 stay."""
    problem = load_problem(str(tiny_folder), toy_folder, max_length=16)
    refs = find_params(problem.runner.model)
    scales = gradient_policy(problem)([], [])
    with torch.no_grad():
        refs[-2].parameter.zero_()  # The head's weights: nothing before it has a gradient.
    now = gradient_policy(problem)([], [])
    assert all(scale > 0 for scale in scales[-2:])
    assert [scale > 0 for scale in now] == [False] * (len(refs) - 2) + [True, True]
