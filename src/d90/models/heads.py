"""Values of the parameters that a checkpoint lacks: a function of a seed and of their names."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn

from d90.rng import philox


@torch.no_grad()
def initialize(model: nn.Module, names: Collection[str], seed: int) -> None:
    """Initialize the named parameters from `seed`, in place.

    Entry i of a parameter is the standard deviation times normal i of the block that is the hash
    of its name: it depends neither on the order of the names nor on the rest of the model. Biases
    are zero; other vectors (the weights of norms) are not changed.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for name in {*names} & parameters.keys():
        parameter = parameters[name]
        values = init_values(model, name, parameter.shape, seed)
        if values is not None:
            parameter.copy_(values)


def init_values(model: nn.Module, name: str, shape: Sequence[int], seed: int) -> Tensor | None:
    """The value that `initialize` gives a parameter, in float32; None if it does not change it.

    Args:
        model: its configuration has the standard deviation.
        name, shape: of the parameter.
        seed: 0 <= seed < 2^64.
    """
    if name.endswith("bias"):
        return torch.zeros(*shape)
    if len(shape) < 2:
        return None
    config = getattr(model, "config", None)
    deviation = (
        getattr(config, "initializer_range", None) or getattr(config, "init_std", None) or 0.02
    )
    block = int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big")
    values = philox.normals(seed, philox.Stream.HEAD, 0, math.prod(shape), block=block)
    return (values * deviation).view(*shape)
