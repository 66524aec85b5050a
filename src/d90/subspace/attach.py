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
from contextlib import ExitStack
from typing import Any

from torch import nn

from d90.errors import D90Error
from d90.search.subspace_config import SubspaceConfig
from d90.subspace.layout import ParamRef, build_layout, find_params
from d90.subspace.subspace import Subspace

NAME = "subspace"
"""The attribute of the model that holds its `Subspace`; keys of the state dict begin with it."""

_LOAN = "subspace_loan"
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
    """Make the trainable weights of a model a function of d numbers, in place.

    DID: `theta = theta_0 + s (P z)`. SAID: `theta_i = theta_0,i + s lam_i (P z)_i` for group i.

    Afterwards `model.parameters()` yields z (and lam) and what was frozen before, the state dict is
    exactly the d numbers, and the weights are plain tensors, computed before each forward pass of
    `model`. Where a part of the model is called by itself, call `Subspace.materialize` first.

    Args:
        model: any module. Its dtype and its frozen parameters stay as they are.
        d: how many numbers to train, at most D.
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
    subspace = getattr(model, NAME, None)
    if not isinstance(subspace, Subspace):
        raise D90Error(f"{type(model).__name__} has no subspace: call attach(model, d=...) first.")
    subspace.undo.close()


def _install(model: nn.Module, subspace: Subspace, weights: Sequence[ParamRef]) -> None:
    """Put the subspace in the model, leaving in `subspace.undo` what takes it out again."""
    undo = subspace.undo
    undo.callback(_give_back, subspace, _take(weights))
    undo.callback(model._modules.pop, NAME)
    # First, so that the name of z is `subspace.z` and not that of a loan of it.
    rest = dict(model._modules)
    model._modules.clear()
    model._modules.update({NAME: subspace, **rest})
    _lend(model, subspace, undo)
    for handle in (
        model.register_forward_pre_hook(subspace.before_forward, prepend=True),
        model.register_state_dict_post_hook(_keep_subspace_only),
        model.register_load_state_dict_post_hook(_expect_subspace_only),
    ):
        undo.callback(handle.remove)
    # Trainer scales gradients wrongly for a forward that takes **kwargs and ignores the number of
    # items in the batch, unless told that it does.
    _set(model, "accepts_loss_kwargs", False, undo)
    # DDP would send theta_0 to every process in every step.
    ignored = [f"{NAME}.{name}" for name, _ in subspace.named_buffers() if "theta_0" in name]
    before = getattr(model, "_ddp_params_and_buffers_to_ignore", [])
    _set(model, "_ddp_params_and_buffers_to_ignore", [*before, *ignored], undo)


def _take(weights: Sequence[ParamRef]) -> dict[nn.Module, tuple[str, ...]]:
    """Plain tensors for the parameters; returns the order in which each module had those."""
    orders = {module: tuple(module._parameters) for w in weights for module, _ in w.sites}
    for weight in weights:
        tensor = weight.parameter.detach()
        for module, attribute in weight.sites:
            del module._parameters[attribute]
            setattr(module, attribute, tensor)
    return orders


def _give_back(subspace: Subspace, orders: dict[nn.Module, tuple[str, ...]]) -> None:
    for param_slice, theta_0 in subspace.theta_0.items():
        parameter = nn.Parameter(theta_0)
        for module, attribute in subspace.sites[param_slice]:
            setattr(module, attribute, parameter)
    for module, order in orders.items():
        for attribute in order:
            module._parameters[attribute] = module._parameters.pop(attribute)


def _lend(model: nn.Module, subspace: Subspace, undo: ExitStack) -> None:
    """Show z to the modules that lost their parameters.

    Many a module asks `next(self.parameters())` for its device and dtype. Where the dtype is not
    that of z, it is shown a frozen parameter of no numbers.
    """
    leases = {subspace.z.dtype: subspace.z}
    for param_slice, theta_0 in subspace.theta_0.items():
        if theta_0.dtype not in leases:
            nothing = theta_0.new_empty(0)
            leases[theta_0.dtype] = nn.Parameter(nothing, requires_grad=False)
        for module, _ in subspace.sites[param_slice]:
            if module is not model and _LOAN not in module._parameters:
                module._parameters[_LOAN] = leases[theta_0.dtype]
                undo.callback(module._parameters.pop, _LOAN)


def _set(model: nn.Module, attribute: str, value: Any, undo: ExitStack) -> None:
    before = model.__dict__.get(attribute, _ABSENT)
    setattr(model, attribute, value)
    if before is _ABSENT:
        undo.callback(delattr, model, attribute)
    else:
        undo.callback(setattr, model, attribute, before)


def _keep_subspace_only(model: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    """After `state_dict`: the d numbers, without frozen parameters, buffers and loans of z."""
    for key in [key for key in state if key.startswith(prefix)]:
        if not key.startswith(f"{prefix}{NAME}."):
            del state[key]


def _expect_subspace_only(model: nn.Module, incompatible: Any) -> None:
    """After `load_state_dict`: what `state_dict` leaves out is not missing."""
    entries = [*model.named_parameters(remove_duplicate=False), *model.named_buffers()]
    left_out = tuple(f".{name}" for name, _ in entries if not name.startswith(f"{NAME}."))
    incompatible.missing_keys[:] = [
        key for key in incompatible.missing_keys if not f".{key}".endswith(left_out)
    ]
