"""Invalid configurations get one line; learning rates follow their formulas."""

from __future__ import annotations

import pytest

from d90.errors import D90Error
from d90.training import TrainConfig, learning_rate_factor, subspace_learning_rate


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": "adamm"}, "did you mean 'adam'"),
        ({"precision": "bf61"}, "did you mean 'bf16'"),
        ({"log_with": "tensorbord"}, "did you mean 'tensorboard'"),
        ({"max_grad_norm": 0.0}, "max_grad_norm 0.0"),
        ({"warmup_ratio": 1.5}, "warmup_ratio 1.5"),
        ({"epochs": 0}, "epochs 0"),
        ({"batch_size": 0}, "batch_size 0"),
        ({"max_steps": -1}, "max_steps -1"),
    ],
)
def test_invalid_config(options: dict, message: str):
    with pytest.raises(D90Error, match=message):
        TrainConfig(**options)


@pytest.mark.parametrize("steps", [1, 2, 7, 460])
@pytest.mark.parametrize("warmup", [0.0, 0.06, 0.5])
def test_learning_rate_rises_to_one_and_falls(steps: int, warmup: float):
    factors = [learning_rate_factor(step, steps, warmup) for step in range(steps)]
    assert all(0 < factor <= 1 for factor in factors)
    assert max(factors) == 1
    peak = factors.index(1)
    assert factors[: peak + 1] == sorted(factors[: peak + 1])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)


def test_subspace_learning_rate_is_the_users_at_the_reference():
    assert subspace_learning_rate(0.01, 200) == 0.01
    assert subspace_learning_rate(0.01, None) == 0.01
    assert subspace_learning_rate(0.01, 10) > 0.01 > subspace_learning_rate(0.01, 10_000)
