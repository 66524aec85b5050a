"""The layout of theta: the order of a model's weights, their groups and their scales.

theta is the concatenation of every trainable tensor, each in row-major order, tied tensors once,
tensors of one group adjacent. The order defines the meaning of z: row i of P moves entry i of
theta.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from d90.errors import D90Error
from d90.subspace.grouping import GROUPINGS, HEAD
from d90.subspace.scaling import SCALES


@dataclass(frozen=True)
class ParamSlice:
    """One tensor of theta.

    Attributes:
        name: as in `model.named_parameters()`.
        shape: its shape.
        offset: index in theta, and row of P, of its first entry.
        scale: s, which multiplies its rows of P; 0 freezes the tensor.
        aliases: its other names, if tied.
    """

    name: str
    shape: tuple[int, ...]
    offset: int
    scale: float
    aliases: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Number of weights."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Group:
    """Adjacent tensors of theta that share one lam in SAID."""

    name: str
    slices: tuple[ParamSlice, ...]

    @property
    def size(self) -> int:
        """Number of weights."""
        return sum(param_slice.size for param_slice in self.slices)

    @property
    def trainable(self) -> tuple[ParamSlice, ...]:
        """The slices that P moves: those with a scale other than 0."""
        return tuple(param_slice for param_slice in self.slices if param_slice.scale)


@dataclass(frozen=True)
class Layout:
    """The groups of theta, in its order."""

    groups: tuple[Group, ...]

    @property
    def slices(self) -> tuple[ParamSlice, ...]:
        """Every tensor, in the order of theta."""
        return tuple(param_slice for group in self.groups for param_slice in group.slices)

    @property
    def trainable(self) -> tuple[Group, ...]:
        """The groups with a slice that moves, in the order of lam."""
        return tuple(group for group in self.groups if group.trainable)

    @property
    def D(self) -> int:
        """Number of weights, tied ones once."""
        return sum(group.size for group in self.groups)

    @property
    def m(self) -> int:
        """Number of trainable groups: SAID trains one lam for each."""
        return len(self.trainable)

    @property
    def ties(self) -> int:
        """Number of aliases of all tensors."""
        return sum(len(param_slice.aliases) for param_slice in self.slices)


ParamSite = tuple[nn.Module, str]
"""A module and the name of its attribute that holds a tensor."""


@dataclass(frozen=True)
class ParamRef:
    """A trainable parameter of a model: its names and the modules that hold it."""

    parameter: nn.Parameter
    names: tuple[str, ...]
    sites: tuple[ParamSite, ...]


def find_params(model: nn.Module) -> list[ParamRef]:
    """Every trainable floating-point parameter of the model, once, in the model's own order.

    Raises:
        D90Error: there is none, or one is not real.
    """
    names_of: dict[nn.Parameter, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if parameter.requires_grad and parameter.numel():
            names_of.setdefault(parameter, []).append(name)
    if not names_of:
        raise D90Error(
            f"{type(model).__name__} has no trainable parameters: set requires_grad = True on "
            "those that the subspace should move."
        )
    for parameter, names in names_of.items():
        if not parameter.is_floating_point():
            raise D90Error(
                f"parameter {names[0]} is {parameter.dtype}: only real floating-point weights "
                "can be moved; freeze it with requires_grad = False."
            )
    return [ParamRef(p, tuple(names), _sites(model, names)) for p, names in names_of.items()]


def _sites(model: nn.Module, names: Sequence[str]) -> tuple[ParamSite, ...]:
    """The sites behind the names; a module under two names is one site."""
    sites: dict[ParamSite, None] = {}
    for name in names:
        owner, _, attribute = name.rpartition(".")
        sites[model.get_submodule(owner), attribute] = None
    return tuple(sites)


def build_layout(
    model: nn.Module, weights: Sequence[ParamRef], *, groups: str, scale: str
) -> tuple[Layout, list[ParamRef]]:
    """Lay out weights group by group, groups in the order in which the model names them.

    Args:
        model: the model.
        weights: what `find_params` returned.
        groups: a key of `GROUPINGS`.
        scale: a key of `SCALES`.

    Returns:
        The layout, and the weights in its order: one for each of `layout.slices`.

    Raises:
        D90Error: the scale policy is 0 for every weight.
    """
    layer, group = GROUPINGS["layer"](model), GROUPINGS[groups](model)
    in_head = [layer(weight.names[0]) == HEAD for weight in weights]
    scales = SCALES[scale]([weight.parameter for weight in weights], in_head)
    if not any(scales):
        raise D90Error(f"scale = {scale!r} moves none of the weights of {type(model).__name__}.")
    members: dict[str, list[tuple[ParamRef, float]]] = {}
    for weight, s in zip(weights, scales, strict=True):
        members.setdefault(group(weight.names[0]), []).append((weight, s))
    layout, offset = [], 0
    for name, pairs in members.items():
        layout.append(Group(name, _slices(pairs, offset)))
        offset += layout[-1].size
    return Layout(tuple(layout)), [weight for pairs in members.values() for weight, _ in pairs]


def _slices(pairs: Sequence[tuple[ParamRef, float]], offset: int) -> tuple[ParamSlice, ...]:
    slices = []
    for weight, scale in pairs:
        name, *aliases = weight.names
        slices.append(
            ParamSlice(name, tuple(weight.parameter.shape), offset, scale, tuple(aliases))
        )
        offset += slices[-1].size
    return tuple(slices)
