"""Lists on the command line."""

from __future__ import annotations

import pytest

from d90.cli.parsing import names, rates, whole_numbers
from d90.errors import D90Error


def test_what_is_a_list() -> None:
    assert whole_numbers("--dims", "10, 1e3, 10_000") == (10, 1000, 10_000)
    assert whole_numbers("--seeds", str(2**63 + 1)) == (2**63 + 1,)  # No float would hold it.
    assert rates("--learning-rates", "5e-3,.01,1") == (0.005, 0.01, 1.0)
    assert names(" premise ,hypothesis") == ("premise", "hypothesis")


@pytest.mark.parametrize("text", ["", "1,", "1;2", "x", "nan", "inf", "1e400", "9" * 5000])
def test_what_is_none(text: str) -> None:
    for parse in (rates, whole_numbers):
        with pytest.raises(D90Error, match=r"--dims .* is not a number"):
            parse("--dims", text)


def test_what_is_not_whole() -> None:
    with pytest.raises(D90Error, match=r"1\.5 is not whole"):
        whole_numbers("--dims", "1,1.5")
