"""A model as a function of z: theta = theta_0 + s lam (P z)."""

from __future__ import annotations

from d90.search.subspace_config import SubspaceConfig
from d90.subspace.attach import attach, detach, hold, lam_names, merge
from d90.subspace.grouping import GROUPINGS
from d90.subspace.layout import Group, Layout, ParamSlice
from d90.subspace.scaling import SCALES
from d90.subspace.subspace import Subspace

__all__ = [
    "GROUPINGS",
    "SCALES",
    "Group",
    "Layout",
    "ParamSlice",
    "Subspace",
    "SubspaceConfig",
    "attach",
    "detach",
    "hold",
    "lam_names",
    "merge",
]
