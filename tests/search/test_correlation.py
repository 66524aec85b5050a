"""Spearman's rho and its interval."""

from __future__ import annotations

import math

import numpy as np
import pytest

from d90.search.correlation import _bonett_wright, spearman


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


def test_ties_at_both_ends_by_hand() -> None:
    """Two studies above the maximum and two at the minimum share ranks 5.5 and 1.5.

    Ranks of x, less their mean 3.5: -2, -2, -0.5, 0.5, 2, 2, of squares 16.5; of y -2.5 to 2.5, of
    squares 17.5. Products: 5 + 3 + 0.25 + 0.25 + 3 + 5 = 16.5.
    """
    x = [-math.inf, -math.inf, 120.0, 700.0, math.inf, math.inf]
    result = spearman(x, [1, 2, 3, 4, 5, 6])
    assert result is not None
    assert result.rho == pytest.approx(16.5 / math.sqrt(16.5 * 17.5))
    falling = spearman(x, [6, 5, 4, 3, 2, 1])
    assert falling is not None and falling.rho == pytest.approx(-result.rho)


def test_where_it_is_not_defined() -> None:
    assert spearman([1.0], [2.0]) is None
    assert spearman([1, 1, 1, 1], [1, 2, 3, 4]) is None
    assert spearman([math.inf] * 4, [1, 2, 3, 4]) is None
    assert spearman([1, 2, 3, 4], [2, 2, 2, 2]) is None
    with pytest.raises(ValueError, match="2 values of x, 1 of y"):
        spearman([1, 2], [1])


def test_three_points_or_models_have_no_interval() -> None:
    result = spearman([1, 2, 3], [1, 2, 3])
    assert result is not None
    assert (result.rho, result.low, result.high) == (1, None, None)
    assert str(result) == "Spearman's rho = 1.00, n = 3"
    result = spearman([1, 2, 3, 4, 5], [1, 2, 3, 4, 5], list("aabbc"))
    assert result is not None
    assert (result.rho, result.low, result.high) == (1, None, None)
    assert str(result) == "Spearman's rho = 1.00, n = 5 of 3 models"


def test_the_same_points_have_the_same_interval() -> None:
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(2, 12)).tolist()
    clusters = list("aabbccddeeff")
    assert spearman(x, y, clusters) == spearman(x, y, clusters)


def test_equal_points_of_a_model_count_once() -> None:
    """Bonett and Wright's would narrow by copies of the same points."""
    generator = np.random.default_rng(1)
    x, y = generator.normal(size=(2, 8)).tolist()
    once, copied = spearman(x, y), spearman(x * 9, y * 9, list(range(8)) * 9)
    assert once is not None and copied is not None
    assert once.low is not None and copied.low is not None
    assert once.high is not None and copied.high is not None
    narrow = _bonett_wright(copied.rho, 72)
    assert copied.high - copied.low > 2 * (narrow[1] - narrow[0])
    assert copied.high - copied.low > 0.85 * (once.high - once.low)


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


@pytest.mark.parametrize("correlation", [0.0, -0.7])
def test_the_interval_covers_fourteen_points_of_five_models(correlation: float) -> None:
    """Nine tenths of the variance between models: that of independent points covers four fifths."""
    truth = 6 / np.pi * np.arcsin(correlation / 2)
    generator = np.random.default_rng(14)
    models = np.repeat(range(5), [6, 2, 2, 2, 2])
    shape = [[1, correlation], [correlation, 1]]
    inside, independent, draws = 0, 0, 300
    for _ in range(draws):
        effects = generator.multivariate_normal([0, 0], shape, size=5)[models]
        noise = generator.multivariate_normal([0, 0], shape, size=14)
        x, y = (math.sqrt(0.9) * effects + math.sqrt(0.1) * noise).T
        result = spearman(x.tolist(), y.tolist(), models.tolist())
        assert result is not None and result.low is not None and result.high is not None
        assert (result.n, result.clusters) == (14, 5)
        inside += result.low <= truth <= result.high
        low, high = _bonett_wright(result.rho, 14)
        independent += low <= truth <= high
    assert inside / draws > 0.92
    assert independent / draws < 0.88
