"""Every example in a docstring, of every module."""

from __future__ import annotations

import doctest
import re
from importlib import import_module
from pathlib import Path

import pytest

import d90

PACKAGE = Path(d90.__file__).parent
NOT_IMPORTED = ("__main__.py", "projections/kernels/triton/")
"""The command line would start; Triton's kernels need Triton."""

SOURCES = [
    path
    for path in sorted(PACKAGE.rglob("*.py"))
    if not path.relative_to(PACKAGE).as_posix().startswith(NOT_IMPORTED)
]


def module_name(path: Path) -> str:
    """
    >>> module_name(PACKAGE / "rng" / "philox.py"), module_name(PACKAGE / "rng" / "__init__.py")
    ('d90.rng.philox', 'd90.rng')
    """
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_every_example_of_a_module_runs(path: Path) -> None:
    results = doctest.testmod(import_module(module_name(path)))
    assert results.failed == 0
    # doctest passes over what it cannot find, such as a wrapped function's docstring.
    assert results.attempted == len(re.findall(r"^ *>>> ", path.read_text("utf-8"), re.MULTILINE))


def test_examples_were_found() -> None:
    assert sum(">>> " in path.read_text("utf-8") for path in SOURCES) > 20
