"""What tells one base model from another: a digest of the weights that a subspace moves."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor, nn

from d90.subspace.layout import find_params
from d90.utils.digest import tensor_digest, text_digest


@dataclass(frozen=True)
class WeightDigests:
    """The digests of a model's weights, one a tensor: where one changes, one is made again.

    Attributes:
        lines: for each tensor its name, shape, dtype and the SHA-256 of its bytes.
    """

    lines: tuple[tuple[str, str], ...]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the sorted lines, 64 hexadecimal digits."""
        return text_digest("".join(f"{name} {about}\n" for name, about in sorted(self.lines)))

    def replaced(self, tensors: Iterable[tuple[str, Tensor]]) -> WeightDigests:
        """With other values for the tensors of these names."""
        return WeightDigests(tuple({**dict(self.lines), **_lines(tensors)}.items()))


def weight_digests(model: nn.Module) -> WeightDigests:
    """Of every trainable tensor of a model without a subspace, tied ones once, by their first name.

    Raises:
        D90Error: there is none.
    """
    found = ((weight.names[0], weight.parameter.detach()) for weight in find_params(model))
    return WeightDigests(tuple(_lines(found).items()))


def fingerprint(model: nn.Module) -> str:
    """The fingerprint of a model without a subspace: 64 hexadecimal digits.

    Raises:
        D90Error: it has no trainable tensors.

    >>> model = nn.Linear(2, 1)
    >>> before = fingerprint(model)
    >>> _ = model.weight.data[0, 0].neg_()
    >>> len(before), before == fingerprint(model)
    (64, False)
    """
    return weight_digests(model).fingerprint


def _lines(tensors: Iterable[tuple[str, Tensor]]) -> dict[str, str]:
    return {
        name: f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')} "
        f"{tensor_digest(tensor)}"
        for name, tensor in tensors
    }
