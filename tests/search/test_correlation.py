"""Spearman's rho and its interval."""

from __future__ import annotations

import numpy as np
import pytest

from d90.search.correlation import spearman


def test_perfect_orders() -> None:
    for sign in (1, -1):
        result = spearman([1, 2, 3, 4, 5], [sign * x**3 for x in range(1, 6)])
        assert result is not None
        assert (result.rho, result.n) == (sign, 5)
        assert result.low is not None and result.high is not None
        assert -1 <= result.low < result.high <= 1
        assert (result.high if sign == 1 else result.low) == sign


def test_by_hand() -> None:
    """1 - 6 * (squares of rank differences: 0 + 1 + 1 + 1 + 1) / (5 * 24)."""
    result = spearman([10, 20, 30, 40, 50], [1, 3, 2, 5, 4])
    assert result is not None
    assert result.rho == pytest.approx(1 - 6 * 4 / 120)


def test_where_it_is_not_defined() -> None:
    assert spearman([1.0], [2.0]) is None
    assert spearman([1, 1, 1, 1], [1, 2, 3, 4]) is None
    assert spearman([1, 2, 3, 4], [2, 2, 2, 2]) is None
    with pytest.raises(ValueError, match="2 values of x and 1 of y"):
        spearman([1, 2], [1])


def test_three_points_have_no_interval() -> None:
    result = spearman([1, 2, 3], [1, 2, 3])
    assert result is not None
    assert (result.rho, result.low, result.high) == (1, None, None)
    assert str(result) == "Spearman's rho = 1.00, n = 3"


@pytest.mark.parametrize(("n", "correlation"), [(6, 0.0), (8, 0.6), (20, -0.5)])
def test_the_interval_covers(n: int, correlation: float) -> None:
    """Of normal pairs with Pearson's r, Spearman's rho is 6 / pi * asin(r / 2)."""
    truth = 6 / np.pi * np.arcsin(correlation / 2)
    generator = np.random.default_rng(n)
    shape = [[1, correlation], [correlation, 1]]
    inside = 0
    draws = 400
    for _ in range(draws):
        x, y = generator.multivariate_normal([0, 0], shape, size=n).T
        result = spearman(x.tolist(), y.tolist())
        assert result is not None and result.low is not None and result.high is not None
        inside += result.low <= truth <= result.high
    assert inside / draws > 0.92
