"""Configuration of a subspace: everything that determines P except the model.

This module imports no torch: a summary, an adapter or a command line can name a subspace without
loading a model. `d90.subspace.attach` creates it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from d90.errors import D90Error, unknown_name

METHODS = ("did", "said")
GROUPINGS = ("layer", "module", "tensor")
PROJECTIONS = ("dense", "fastfood", "onehot", "sparse")
SCALES = ("model", "rms", "tensor", "vectors")

MAX_SEED = 2**64 - 1


@dataclass(frozen=True)
class SubspaceConfig:
    """The subspace theta = theta_0 + s lam (P z) of any model.

    Attributes:
        method: `did` (one z for the whole model) or `said` (and a lam for each group).
        groups: `layer`, `module` or `tensor`: the groups of SAID, and the order of theta.
        projection: a name of `PROJECTIONS`.
        scale: a name of `SCALES`: how far each tensor moves.
        d: number of trained parameters, z and lam; None if not chosen yet.
        seed: of P.

    Raises:
        D90Error: an unknown name, a d below 1, a seed outside [0, 2^64).

    Source: Aghajanyan, Gupta and Zettlemoyer, ACL 2021, equations 2 and 3.
    """

    method: str = "did"
    groups: str = "layer"
    projection: str = "fastfood"
    scale: str = "tensor"
    d: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for kind, name, choices in (
            ("method", self.method, METHODS),
            ("groups", self.groups, GROUPINGS),
            ("projection", self.projection, PROJECTIONS),
            ("scale", self.scale, SCALES),
        ):
            if name not in choices:
                raise unknown_name(kind, name, choices)
        if self.d is not None and (not _is_whole(self.d) or self.d < 1):
            raise D90Error(f"d is {self.d!r}: expected a whole number, at least 1.")
        if not _is_whole(self.seed) or not 0 <= self.seed <= MAX_SEED:
            raise D90Error(f"seed is {self.seed!r}: expected a whole number from 0 to 2^64 - 1.")

    @property
    def is_said(self) -> bool:
        """Whether some of the d parameters are the groups' lam."""
        return self.method == "said"

    def check_size(self, D: int, groups: int) -> None:
        """Check that a model has a subspace of this d.

        Args:
            D: number of weights of the model.
            groups: number of its groups; SAID trains a lam for each.

        Raises:
            D90Error: d is not chosen, above D, or leaves SAID no z.
        """
        if self.d is None:
            raise D90Error("d is not chosen: give the number of parameters to train.")
        if self.d > D:
            raise D90Error(
                f"d = {self.d} is larger than D = {D}, the number of trainable weights of the "
                "model: choose a smaller d."
            )
        if self.is_said and self.d <= groups:
            raise D90Error(
                f"d = {self.d} is too small for SAID with groups = {self.groups!r}: {groups} of "
                f"the d parameters are the groups' lam, so choose d > {groups}, coarser groups or "
                "method 'did'."
            )

    def names(self) -> dict[str, str]:
        """Method, groups, projection and scale: what the trials of a study share."""
        return {
            "method": self.method,
            "groups": self.groups,
            "projection": self.projection,
            "scale": self.scale,
        }

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, as `d90.subspace.attach` takes them."""
        return asdict(self)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
