"""The log-spaced grid."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d90.search.protocols import GridProtocol
from d90.search.trial import Trial, TrialResult


def test_the_paper_grid() -> None:
    dims = GridProtocol().dimensions()
    assert (dims[0], dims[-1]) == (10, 10_000)
    # 100 values of ratio 1.072: 10.7 and 11.5 round to the same 11.
    assert len(dims) == 99
    assert GridProtocol().max_trials() == 2 + len(dims) * 4


def test_every_dimension_rate_and_seed() -> None:
    grid = GridProtocol(
        min_dim=10,
        max_dim=1000,
        num_dims=3,
        learning_rates=(0.1, 0.2),
        baseline_learning_rates=(1e-4,),
        seeds=(0, 7),
    )
    baseline = [TrialResult(Trial(None, 1e-4, s), "ok", metric=0.8) for s in (0, 7)]
    expected = [Trial(d, lr, s) for d in (10, 100, 1000) for lr in (0.1, 0.2) for s in (0, 7)]
    assert grid.next_trials(baseline) == expected
    done = TrialResult(expected[0], "diverged")
    assert grid.next_trials([*baseline, done]) == expected[1:]


@given(st.integers(1, 10**6), st.integers(0, 10**6), st.integers(2, 200))
def test_dimensions_are_ascending_whole_and_even_in_log(low: int, more: int, count: int) -> None:
    dims = GridProtocol(min_dim=low, max_dim=low + more, num_dims=count).dimensions()
    assert (dims[0], dims[-1]) == (low, low + more)
    assert all(a < b for a, b in pairwise(dims))
    assert len(dims) <= count
    ratio = ((low + more) / low) ** (1 / (count - 1))
    # Rounding moves each end of a step by half at most; dropped repeats make steps of one.
    assert all(b <= max(a + 1, (a + 0.5) * ratio + 0.5) for a, b in pairwise(dims))


def test_one_dimension() -> None:
    assert GridProtocol(min_dim=50, max_dim=50).dimensions() == (50,)


@pytest.mark.parametrize("count", [2, 5])
def test_ends_are_included(count: int) -> None:
    dims = GridProtocol(min_dim=7, max_dim=7001, num_dims=count).dimensions()
    assert (dims[0], dims[-1]) == (7, 7001)
