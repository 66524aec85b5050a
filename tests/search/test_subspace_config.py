"""SubspaceConfig: the names that it allows are those that torch-side tables implement."""

from __future__ import annotations

from typing import Any

import pytest

from d90.errors import D90Error
from d90.projections import PROJECTIONS
from d90.search import subspace_config
from d90.search.subspace_config import SubspaceConfig
from d90.subspace import GROUPINGS, SCALES


def test_names_are_the_keys_of_the_implementations() -> None:
    assert {*subspace_config.PROJECTIONS} == {*PROJECTIONS}
    assert {*subspace_config.GROUPINGS} == {*GROUPINGS}
    assert {*subspace_config.SCALES} == {*SCALES}
    assert [SubspaceConfig(method).is_said for method in subspace_config.METHODS] == [False, True]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"method": "sad"}, "unknown method 'sad': did you mean 'said'"),
        ({"groups": "layers"}, "unknown groups 'layers': did you mean 'layer'"),
        ({"projection": "fastfod"}, "unknown projection 'fastfod': did you mean 'fastfood'"),
        ({"scale": "tensors"}, "unknown scale 'tensors': did you mean 'tensor'"),
        ({"d": 0}, "d is 0: expected a whole number, at least 1"),
        ({"d": 2.5}, r"d is 2\.5"),
        ({"d": True}, "d is True"),
        ({"seed": -1}, "seed is -1: expected a whole number from 0 to 2\\^64 - 1"),
        ({"seed": 2**64}, "seed is 18446744073709551616"),
    ],
)
def test_invalid_fields(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(D90Error, match=message):
        SubspaceConfig(**fields)


def test_check_size() -> None:
    SubspaceConfig(d=100).check_size(100, groups=200)
    SubspaceConfig("said", d=13).check_size(100, groups=12)
    with pytest.raises(D90Error, match="d is not chosen"):
        SubspaceConfig().check_size(100, groups=1)
    with pytest.raises(D90Error, match="d = 101 is larger than D = 100"):
        SubspaceConfig(d=101).check_size(100, groups=1)
    with pytest.raises(D90Error, match=r"d = 12 is too small for SAID .* choose d > 12"):
        SubspaceConfig("said", d=12).check_size(100, groups=12)
