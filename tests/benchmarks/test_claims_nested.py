"""One run whose z grows by a prefix at a time."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.claims import nested, reference
from benchmarks.claims.nested import nested_curve, prefix
from benchmarks.claims.reference import Row
from tests.helpers.studies import every_kind
from torch import Tensor

from d90.experiments.problem import load_problem
from d90.projections import make_projection
from d90.search.trial import TrialResult
from d90.training import TrainConfig, train


def test_prefixes_of_one_block_are_nested() -> None:
    """P of d = 20 moves theta as that of d = 32 does with a z that ends in zeros."""
    P, whole = (make_projection("fastfood", d=d, D=500, seed=3) for d in (20, 32))
    z = torch.randn(20)
    assert torch.equal(P.apply(z, 0, 500), whole.apply(torch.cat([z, torch.zeros(12)]), 0, 500))


def test_prefix_by_hand() -> None:
    assert prefix(torch.tensor([1.0, 2.0, 3.0]), 2).tolist() == [1, 2, 0]


def test_a_stage_moves_its_prefix_alone(
    tiny_folder: Path, toy_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = load_problem(str(tiny_folder), toy_folder, max_length=16)
    ends: list[Tensor] = []

    def watched(model: Any, *arguments: Any, **settings: Any) -> TrialResult:
        result = train(model, *arguments, **settings)
        ends.append(model.subspace.z.detach().clone())
        return result

    monkeypatch.setattr(nested, "train", watched)
    config = TrainConfig(max_steps=3, precision="no")
    found = nested_curve(problem, config, dims=(3, 7, 30), learning_rate=0.01, seed=0)
    assert list(found) == [3, 7, 30]
    assert [int(z.count_nonzero()) for z in ends] == [3, 7, 30]
    assert all((a != b)[:3].all() for a, b in pairwise(ends))


def test_the_table(tmp_path: Path) -> None:
    summary = replace(every_kind()["ok"], examples={"metric": 1000})
    row = Row(*nested.PAIRS[0], "did")
    study = reference.study(row, 0)
    (tmp_path / study.name).mkdir(parents=True)
    (tmp_path / study.result).write_text(summary.to_json())
    run = nested.commands()[0]
    (tmp_path / run.result).parent.mkdir(parents=True)
    threshold = summary.threshold or math.nan
    points = {10: threshold - 0.1, 1000: threshold + 0.1}
    (tmp_path / run.result).write_text(json.dumps(points))
    lines = nested.table(tmp_path).splitlines()
    assert lines[2].startswith("| bert-tiny | sst2 | ")
    assert lines[2].split(" | ")[3] == "100"
    assert lines[-1] in ("Within a factor of 1.5: 0 of 6.", "Within a factor of 1.5: 1 of 6.")
