"""Limits keep the same rows in every version."""

from __future__ import annotations

import hashlib

import pytest

from d90.tasks.limits import limited_rows


def test_golden_rows() -> None:
    """Changing these changes what every recorded study with a limit was trained on."""
    assert limited_rows(100, 5, 0, option="limit") == [15, 44, 46, 87, 99]
    rows = limited_rows(10_000, 2_000, 7, option="limit")
    digest = hashlib.sha256(",".join(map(str, rows)).encode()).hexdigest()
    assert digest == "6f5c61961780b60c28282af786d8ce9e7b8bc4ade1ba75649ac4d13a8a010309"


@pytest.mark.parametrize("limit", [None, 10, 11])
def test_no_effective_limit_keeps_every_row_in_its_order(limit: int | None) -> None:
    assert list(limited_rows(10, limit, 3, option="limit")) == list(range(10))


def test_limits_are_nested_and_rows_are_spread_evenly() -> None:
    small, large = (set(limited_rows(1_000, limit, 0, option="limit")) for limit in (200, 500))
    assert small < large
    assert abs(sum(row < 500 for row in large) - 250) < 50
