"""Every example in a docstring, of every module."""

from __future__ import annotations

import doctest
import pkgutil
from importlib import import_module
from importlib.util import find_spec

import pytest

import d90

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(d90.__path__, "d90.")
    if not module.name.startswith("d90.projections.kernels.triton")
    and module.name not in ("d90.__main__", "d90.projections.kernels.libd90")
)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    assert doctest.testmod(import_module(name)).failed == 0


def test_the_sweep_is_complete() -> None:
    assert len(MODULES) > 60
    assert find_spec("d90.rng.philox") is not None and "d90.rng.philox" in MODULES
