"""A model as a function of z: theta = theta_0 + s lam (P z)."""

from __future__ import annotations

from d90.subspace.attach import METHODS, Subspace, attach, detach
from d90.subspace.grouping import GROUPINGS
from d90.subspace.layout import Group, Layout, ParamSlice
from d90.subspace.scaling import SCALES

__all__ = [
    "GROUPINGS",
    "METHODS",
    "SCALES",
    "Group",
    "Layout",
    "ParamSlice",
    "Subspace",
    "attach",
    "detach",
]
