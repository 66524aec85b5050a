"""SHA-256 digests of JSON values and of tensors: all that decides whether two runs are the same.

Stored studies, adapters and checkpoints hold these digests, so their bits never change.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def text_digest(text: str) -> str:
    """SHA-256 of a string in UTF-8, 64 hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def json_digest(value: Any) -> str:
    """SHA-256 of a value as JSON with sorted keys; what JSON cannot hold counts as its `str`.

    >>> json_digest({"a": 1, "b": 2}) == json_digest({"b": 2, "a": 1})
    True
    """
    return json_sequence_digest([value])


def json_sequence_digest(values: Iterable[Any]) -> str:
    """SHA-256 of the values as JSON, one after the other."""
    digest = hashlib.sha256()
    for value in values:
        digest.update(json.dumps(value, sort_keys=True, default=str).encode())
    return digest.hexdigest()


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces.

    Raises:
        TypeError, ValueError: for a value that strict JSON cannot hold.

    >>> canonical_json({"b": [1, 2.5], "a": None})
    '{"a":null,"b":[1,2.5]}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def tensor_bytes(tensor: Tensor) -> memoryview:
    """The values of a tensor in row-major order, as bytes."""
    import torch

    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def tensor_digest(tensor: Tensor) -> str:
    """SHA-256 of a tensor's bytes, 64 hexadecimal digits."""
    return hashlib.sha256(tensor_bytes(tensor)).hexdigest()


def named_tensors_digest(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """SHA-256 of the tensors in order: their names, shapes, dtypes and bytes."""
    digest = hashlib.sha256()
    for name, tensor in tensors:
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor_bytes(tensor))
    return digest.hexdigest()


def state_digest(model: torch.nn.Module) -> str:
    """SHA-256 of a model's state dict: theta_0, head and buffers included.

    Two models of one architecture with the same digest compute the same function.
    """
    return named_tensors_digest(sorted(model.state_dict().items()))
