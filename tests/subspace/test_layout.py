"""The order of theta, groups and scale policies."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from d90.errors import D90Error
from d90.projections import make_projection
from d90.subspace import GROUPINGS, SCALES, Layout
from d90.subspace.layout import build_layout, find_params


class Tied(nn.Module):
    """Two names for one matrix, a frozen bias, a table, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 4)
        self.blocks = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 7)
        self.head.weight = self.table.weight
        self.norm.bias.requires_grad_(False)
        self.register_buffer("steps", torch.zeros(1, dtype=torch.int64))
        self.counts = nn.Parameter(torch.zeros(3, dtype=torch.int64), requires_grad=False)
        self.empty = nn.Parameter(torch.zeros(0, 4))


def layout_of(model: nn.Module, groups: str = "layer", scale: str = "tensor") -> Layout:
    return build_layout(model, find_params(model), groups=groups, scale=scale)[0]


def names(layout: Layout) -> dict[str, list[str]]:
    return {
        group.name: [param_slice.name for param_slice in group.slices] for group in layout.groups
    }


def test_weights_are_found_once_and_frozen_ones_not() -> None:
    weights = find_params(Tied())
    assert weights[0].names == ("table.weight", "head.weight")
    assert [attribute for _, attribute in weights[0].sites] == ["weight", "weight"]
    names = {name for weight in weights for name in weight.names}
    assert not names & {"norm.bias", "counts", "steps", "empty"}


def test_a_module_under_two_names_is_one_place() -> None:
    shared = nn.Linear(2, 2)
    (weight, bias) = find_params(nn.ModuleDict({"a": shared, "b": shared}))
    assert weight.names == ("a.weight", "b.weight")
    assert weight.sites == ((shared, "weight"),)
    assert bias.sites == ((shared, "bias"),)


@pytest.mark.parametrize("groups", GROUPINGS)
def test_slots_fill_theta_group_by_group(groups: str) -> None:
    layout = layout_of(Tied(), groups)
    offset = 0
    for param_slice in layout.slices:
        assert param_slice.offset == offset
        assert param_slice.size == math.prod(param_slice.shape)
        offset += param_slice.size
    assert offset == layout.D == 28 + 2 * 20 + 4 + 7
    assert layout.m == len(layout.groups)
    assert layout.ties == 1


def test_groups_of_a_plain_model() -> None:
    model = Tied()
    assert names(layout_of(model)) == {
        "embeddings": ["table.weight"],
        "blocks.0": ["blocks.0.weight", "blocks.0.bias"],
        "blocks.1": ["blocks.1.weight", "blocks.1.bias"],
        "norm": ["norm.weight"],
        "head": ["head.bias"],
    }
    assert list(names(layout_of(model, "module"))) == [
        "table",
        "blocks.0",
        "blocks.1",
        "norm",
        "head",
    ]
    assert len(layout_of(model, "tensor").groups) == 7


@pytest.mark.parametrize(
    ("make_model", "expected"),
    [
        (lambda: nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2)), ["0", "2"]),
        (
            lambda: nn.Sequential(
                nn.Embedding(5, 3),
                nn.Sequential(*[nn.Sequential(nn.Linear(3, 3)) for _ in range(2)]),
                nn.LayerNorm(3),
            ),
            ["embeddings", "1.0", "1.1", "2"],
        ),
        (lambda: nn.Linear(3, 2), ["Linear"]),
        (
            lambda: nn.TransformerEncoder(
                nn.TransformerEncoderLayer(4, 2, 8), 2, enable_nested_tensor=False
            ),
            ["layers.0", "layers.1"],
        ),
        (lambda: nn.ModuleDict({"members": nn.Linear(2, 2), "pos_embed": nn.Linear(2, 2)}), None),
    ],
)
def test_layers_are_found_by_structure(
    make_model: Callable[[], nn.Module], expected: list[str] | None
) -> None:
    assert list(names(layout_of(make_model()))) == (expected or ["members", "embeddings"])


@pytest.mark.parametrize("scale", SCALES)
def test_columns_have_unit_norm(scale: str) -> None:
    torch.manual_seed(0)
    layout = layout_of(Tied(), scale=scale)
    D = layout.D
    norms = [param_slice.scale**2 * param_slice.size / D for param_slice in layout.slices]
    if scale in ("model", "rms"):
        assert sum(norms) == pytest.approx(1, abs=1e-5)
    else:
        assert all(norm == pytest.approx(1) for norm in norms if norm)


@pytest.mark.parametrize("projection", ["fastfood", "onehot", "dense"])
def test_columns_of_a_real_projection_have_unit_norm_in_each_tensor(projection: str) -> None:
    model = nn.Sequential(nn.Linear(50, 41), nn.Linear(41, 3))
    layout = layout_of(model)
    P = make_projection(projection, d=6, D=layout.D, seed=1).matrix()
    for param_slice in layout.slices:
        if param_slice.size > 2000:
            rows = param_slice.scale * P[param_slice.offset : param_slice.offset + param_slice.size]
            assert rows.square().sum(0).mean() == pytest.approx(1, rel=0.1)


def test_model_scale_is_one_and_tensor_scale_grows_as_the_tensor_shrinks() -> None:
    assert {param_slice.scale for param_slice in layout_of(Tied(), scale="model").slices} == {1.0}
    for param_slice in layout_of(Tied(), scale="tensor").slices:
        assert param_slice.scale == math.sqrt(layout_of(Tied()).D / param_slice.size)


def test_rms_scale_is_proportional_and_zeros_take_the_models() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    with torch.no_grad():
        for tensor, value in zip(model.parameters(), (0.5, 0.0, 2.0, 1.0), strict=True):
            tensor.fill_(value)
    scales = [param_slice.scale for param_slice in layout_of(model, scale="rms").slices]
    whole = math.sqrt((16 * 0.25 + 16 * 4 + 4) / 40)
    expected = [0.5, whole, 2.0, 1.0]
    assert [s / scales[3] for s in scales] == pytest.approx(expected, rel=1e-5)


def test_rms_of_a_model_of_zeros_is_the_model_scale() -> None:
    model = nn.Linear(3, 2)
    for tensor in model.parameters():
        nn.init.zeros_(tensor)
    assert {param_slice.scale for param_slice in layout_of(model, scale="rms").slices} == {1.0}


def test_vectors_leaves_matrices_outside_the_head_alone() -> None:
    model = Tied()
    model.head.weight = nn.Parameter(torch.randn(7, 4))
    layout = layout_of(model, "tensor", "vectors")
    trainable = {param_slice.name for param_slice in layout.slices if param_slice.scale}
    assert trainable == {
        "blocks.0.bias",
        "blocks.1.bias",
        "norm.weight",
        "head.weight",
        "head.bias",
    }
    # A lam that scales nothing would be counted and never trained.
    assert layout.m == len(trainable)
    assert len(layout.groups) == len(trainable) + 3


def test_the_order_does_not_depend_on_the_scale() -> None:
    orders = [
        [param_slice.name for param_slice in layout_of(Tied(), scale=scale).slices]
        for scale in SCALES
    ]
    assert all(order == orders[0] for order in orders)


def test_nothing_to_move() -> None:
    frozen = nn.Linear(2, 2).requires_grad_(False)
    with pytest.raises(D90Error, match="no trainable parameters: set requires_grad"):
        find_params(frozen)
    with pytest.raises(D90Error, match="moves none of the weights"):
        layout_of(nn.Linear(2, 2, bias=False), scale="vectors")
    with pytest.raises(D90Error, match=r"weight is torch\.complex64.*requires_grad = False"):
        find_params(nn.Linear(2, 2, dtype=torch.complex64))
