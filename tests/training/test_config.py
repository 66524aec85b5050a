"""Invalid configurations get one line; learning rates follow their formulas."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from d90.errors import D90Error
from d90.subspace import attach
from d90.training import OPTIMIZERS, TrainConfig, learning_rate_factor, subspace_learning_rate
from d90.training.config import EXPONENTS


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": "adamm"}, "did you mean 'adam'"),
        ({"precision": "bf61"}, "did you mean 'bf16'"),
        ({"log_with": "tensorbord"}, "did you mean 'tensorboard'"),
        ({"max_grad_norm": 0.0}, "max_grad_norm 0.0"),
        ({"warmup_ratio": 1.5}, "warmup_ratio 1.5"),
        ({"average_last": 0.0}, "average_last 0.0"),
        ({"average_last": 1.5}, "average_last 1.5"),
        ({"average_last": float("nan")}, "average_last nan"),
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


def test_added_fields_are_in_an_identity_only_where_they_are_given():
    assert not {"average_last", "stop_hopeless"} & TrainConfig().to_dict().keys()
    given = TrainConfig(average_last=0.25, stop_hopeless=True)
    assert {"average_last": 0.25, "stop_hopeless": True}.items() <= given.to_dict().items()
    assert given.for_baseline().to_dict() == TrainConfig().for_baseline().to_dict()


def test_every_optimizer_has_an_exponent():
    assert set(EXPONENTS) == set(OPTIMIZERS)
    assert subspace_learning_rate(1.0, 20_000, optimizer="sgd") == 0.01
    assert subspace_learning_rate(1.0, 20_000, optimizer="adamw") == 0.1


@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
def test_a_step_goes_equally_far_at_every_d(optimizer: str):
    """On a quadratic: SGD's fall of the loss, and Adam's distance, do not depend on d."""
    steps = {}
    for d in (20, 200, 2000):
        torch.manual_seed(0)
        layer = nn.Linear(64, 64)
        start, target = layer.weight.detach().clone(), torch.randn(64, 64)

        def loss(layer: nn.Linear = layer, target: torch.Tensor = target) -> torch.Tensor:
            layer(torch.zeros(1, 64))
            return 0.5 * (layer.weight - target).square().sum()

        attach(layer, d=d, scale="model")
        rate = subspace_learning_rate(1e-3, d, optimizer=optimizer)
        stepper = OPTIMIZERS[optimizer](layer.parameters(), lr=rate)
        before = loss()
        before.backward()
        stepper.step()
        after = loss()
        distance = float((layer.weight - start).norm())
        steps[d] = float(before - after) if optimizer == "sgd" else distance
    assert max(steps.values()) < 1.6 * min(steps.values()), steps
