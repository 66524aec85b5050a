"""Lists on the command line."""

from __future__ import annotations

import pytest

from d90.cli.parsing import integers, names, numbers
from d90.errors import D90Error


def test_lists() -> None:
    assert integers("--dims", "10, 1e3, 10_000") == (10, 1000, 10_000)
    assert integers("--seeds", str(2**63 + 1)) == (2**63 + 1,)  # Not a float64.
    assert numbers("--learning-rates", "5e-3,.01,1") == (0.005, 0.01, 1.0)
    assert names(" premise ,hypothesis") == ("premise", "hypothesis")


@pytest.mark.parametrize("text", ["", "1,", "1;2", "x", "nan", "inf", "1e400", "9" * 5000])
def test_not_a_list_of_numbers(text: str) -> None:
    for parse in (numbers, integers):
        with pytest.raises(D90Error, match=r"--dims .* is not a number"):
            parse("--dims", text)


def test_not_integers() -> None:
    with pytest.raises(D90Error, match=r"1\.5 is not an integer"):
        integers("--dims", "1,1.5")
