"""Turning a model into a function of z, in place, and back.

>>> from torch import nn
>>> model = nn.Sequential(nn.Linear(20, 10), nn.ReLU(), nn.Linear(10, 2))
>>> subspace = attach(model, d=5)
>>> [name for name, _ in model.named_parameters()], subspace.layout.D
(['subspace.z'], 232)
>>> detach(model)
>>> sum(parameter.numel() for parameter in model.parameters())
232
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

import torch
from torch import nn

from d90.errors import D90Error
from d90.search.subspace_config import SubspaceConfig
from d90.subspace.layout import ParamRef, build_layout, find_params
from d90.subspace.subspace import Subspace

NAME = "subspace"
"""The attribute of the model that holds its `Subspace`; keys of the state dict begin with it."""

_STAND_IN = "subspace_loan"
_ABSENT = object()


def attach(
    model: nn.Module,
    *,
    d: int,
    method: str = "did",
    groups: str = "layer",
    projection: str = "fastfood",
    scale: str = "tensor",
    seed: int = 0,
) -> Subspace:
    """Make the trainable weights of a model a function of d parameters, in place.

    DID: `theta = theta_0 + s (P z)`. SAID: `theta_i = theta_0,i + s lam_i (P z)_i` for group i.

    Afterwards `model.parameters()` yields z (and lam) and the frozen parameters, the state dict is
    exactly the d parameters, and the weights are plain tensors, computed before each forward pass
    of `model`. Before calling a submodule directly, call `Subspace.materialize`.

    Args:
        model: any module. Its dtype and its frozen parameters stay as they are.
        d: number of parameters to train, at most D.
        method: `did` or `said`.
        groups: `layer`, `module` or `tensor`: the groups of SAID, and the order of theta.
        projection: `dense`, `sparse`, `fastfood` or `onehot`.
        scale: `model`, `tensor`, `rms` or `vectors`: see `d90.subspace.scaling`.
        seed: seed of P.

    Returns:
        The `Subspace`, which is also `model.subspace`.

    Raises:
        D90Error: for an unknown name, d out of range (SAID needs d > m), no trainable weights, or
            a model that has a subspace already.

    Source: Aghajanyan, Gupta and Zettlemoyer, ACL 2021, equations 2 and 3.
    """
    if hasattr(model, NAME):
        raise D90Error(
            f"{type(model).__name__} already has an attribute '{NAME}': "
            "if it is a subspace, call detach(model) first."
        )
    config = SubspaceConfig(method, groups, projection, scale, d, seed)
    layout, params = build_layout(model, find_params(model), groups=groups, scale=scale)
    config.check_size(layout.D, layout.m)
    subspace = Subspace(layout, params, config)
    _install(model, subspace, params)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trained == d, f"{trained} parameters would be trained, not {d}"
    return subspace


def detach(model: nn.Module) -> None:
    """Undo `attach`: theta_0 is back as the model's parameters, bit for bit.

    Raises:
        D90Error: when the model has no subspace.
    """
    _subspace(model).undo.close()


def merge(model: nn.Module) -> None:
    """Undo `attach`, with theta as the model's parameters in the place of theta_0.

    Raises:
        D90Error: when the model has no subspace.
    """
    with torch.no_grad():
        theta = _subspace(model).theta
        detach(model)
        for param_slice, tensor in theta.items():
            model.get_parameter(param_slice.name).copy_(tensor)


def hold(model: nn.Module) -> AbstractContextManager[None]:
    """`Subspace.hold` of the model; does nothing for a model without a subspace."""
    subspace = getattr(model, NAME, None)
    return subspace.hold() if isinstance(subspace, Subspace) else nullcontext()


def lam_names(model: nn.Module) -> list[str]:
    """The name of SAID's lam among the model's parameters, also while it is parametrized."""
    subspace = getattr(model, NAME, None)
    if not isinstance(subspace, Subspace):
        return []
    names = (name for name, _ in subspace.named_parameters())
    return [f"{NAME}.{name}" for name in names if "lam" in name.split(".")]


def _subspace(model: nn.Module) -> Subspace:
    subspace = getattr(model, NAME, None)
    if not isinstance(subspace, Subspace):
        raise D90Error(f"{type(model).__name__} has no subspace: call attach(model, d=...) first.")
    return subspace


def _install(model: nn.Module, subspace: Subspace, weights: Sequence[ParamRef]) -> None:
    """Put the subspace in the model, and register in `subspace.undo` how to remove it."""
    undo = subspace.undo
    undo.callback(_restore_parameters, subspace, _replace_parameters(weights))
    undo.callback(model._modules.pop, NAME)
    # First, so that z is named `subspace.z` and not by a stand-in of it.
    rest = dict(model._modules)
    model._modules.clear()
    model._modules.update({NAME: subspace, **rest})
    _add_stand_ins(model, subspace, undo)
    for handle in (
        model.register_forward_pre_hook(subspace.before_forward, prepend=True),
        model.register_state_dict_post_hook(_keep_subspace_only),
        model.register_load_state_dict_post_hook(_expect_subspace_only),
    ):
        undo.callback(handle.remove)
    # Trainer scales gradients wrongly for a forward that takes **kwargs and ignores the number of
    # items in the batch, unless this attribute is False.
    _set(model, "accepts_loss_kwargs", False, undo)
    # DDP would broadcast theta_0 in every step.
    ignored = [f"{NAME}.{name}" for name, _ in subspace.named_buffers() if "theta_0" in name]
    before = getattr(model, "_ddp_params_and_buffers_to_ignore", [])
    _set(model, "_ddp_params_and_buffers_to_ignore", [*before, *ignored], undo)


def _replace_parameters(weights: Sequence[ParamRef]) -> dict[nn.Module, tuple[str, ...]]:
    """Replace parameters by plain tensors; returns each module's order of parameters."""
    orders = {module: tuple(module._parameters) for w in weights for module, _ in w.sites}
    for weight in weights:
        tensor = weight.parameter.detach()
        for module, attribute in weight.sites:
            del module._parameters[attribute]
            setattr(module, attribute, tensor)
    return orders


def _restore_parameters(subspace: Subspace, orders: dict[nn.Module, tuple[str, ...]]) -> None:
    for param_slice, theta_0 in subspace.theta_0.items():
        parameter = nn.Parameter(theta_0)
        for module, attribute in subspace.sites[param_slice]:
            setattr(module, attribute, parameter)
    for module, order in orders.items():
        for attribute in order:
            module._parameters[attribute] = module._parameters.pop(attribute)


def _add_stand_ins(model: nn.Module, subspace: Subspace, undo: ExitStack) -> None:
    """Register z in the modules that lost their parameters.

    Many modules read their device and dtype from `next(self.parameters())`. Where the dtype is not
    that of z, an empty frozen parameter stands in.
    """
    stand_ins = {subspace.z.dtype: subspace.z}
    for param_slice, theta_0 in subspace.theta_0.items():
        if theta_0.dtype not in stand_ins:
            empty = theta_0.new_empty(0)
            stand_ins[theta_0.dtype] = nn.Parameter(empty, requires_grad=False)
        for module, _ in subspace.sites[param_slice]:
            if module is not model and _STAND_IN not in module._parameters:
                module._parameters[_STAND_IN] = stand_ins[theta_0.dtype]
                undo.callback(module._parameters.pop, _STAND_IN)


def _set(model: nn.Module, attribute: str, value: Any, undo: ExitStack) -> None:
    before = model.__dict__.get(attribute, _ABSENT)
    setattr(model, attribute, value)
    if before is _ABSENT:
        undo.callback(delattr, model, attribute)
    else:
        undo.callback(setattr, model, attribute, before)


def _keep_subspace_only(model: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    """After `state_dict`: z and lam, without frozen parameters, buffers and stand-ins."""
    for key in [key for key in state if key.startswith(prefix)]:
        if not key.startswith(f"{prefix}{NAME}."):
            del state[key]


def _expect_subspace_only(model: nn.Module, incompatible: Any) -> None:
    """After `load_state_dict`: keys that `state_dict` leaves out are not missing."""
    entries = [*model.named_parameters(remove_duplicate=False), *model.named_buffers()]
    left_out = tuple(f".{name}" for name, _ in entries if not name.startswith(f"{NAME}."))
    incompatible.missing_keys[:] = [
        key for key in incompatible.missing_keys if not f".{key}".endswith(left_out)
    ]
