"""The memory of theta: written again in every step, and never while a graph needs it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from d90.subspace import Subspace, attach
from d90.subspace.buffer_pool import BufferPool
from d90.subspace.ops import GroupRows


@pytest.fixture
def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 20), nn.Tanh(), nn.Linear(20, 3))


def places_of(model: nn.Sequential) -> list[int]:
    return [layer.weight.data_ptr() for layer in model if isinstance(layer, nn.Linear)]


def step(subspace: Subspace) -> None:
    with torch.no_grad():
        for vector in subspace.parameters():
            vector.add_(0.1)


def loss_of(model: nn.Module, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return model(torch.randn(8, 6, generator=generator)).square().sum()


@pytest.mark.parametrize("method", ["did", "said"])
def test_training_writes_to_the_same_memory(model: nn.Sequential, method: str) -> None:
    subspace = attach(model, d=9, method=method)  # pyright: ignore[reportArgumentType]
    seen = set()
    for _ in range(4):
        step(subspace)
        loss = loss_of(model)  # Alive while the next theta is made, as in most training loops.
        loss.backward()
        step(subspace)
        with torch.no_grad():
            loss_of(model)
        seen.add(tuple(places_of(model)))
    assert len(seen) == 1


def test_a_graph_that_waits_keeps_its_theta(model: nn.Sequential) -> None:
    subspace = attach(model, d=9)
    step(subspace)
    loss_of(model).backward()
    assert subspace.z.grad is not None
    expected, subspace.z.grad = subspace.z.grad, None
    waiting = loss_of(model)
    before = places_of(model)
    step(subspace)
    later = loss_of(model, 1)
    assert places_of(model) != before
    waiting.backward()
    torch.testing.assert_close(subspace.z.grad, expected)
    later.backward()


def test_a_second_forward_holds_the_memory_again(model: nn.Sequential) -> None:
    """Two forwards at one z share theta: the first one's backward does not free it."""
    subspace = attach(model, d=9)
    step(subspace)
    first = loss_of(model)
    first.backward()
    second = loss_of(model)
    before = places_of(model)
    step(subspace)
    loss_of(model, 1)
    assert places_of(model) != before
    second.backward()


def test_a_forward_whose_graph_is_dropped_frees_the_memory(model: nn.Sequential) -> None:
    subspace = attach(model, d=9)
    step(subspace)
    loss_of(model)
    before = places_of(model)
    step(subspace)
    loss_of(model)
    assert places_of(model) == before


def test_a_graph_used_again_after_its_theta_is_gone_is_refused(model: nn.Sequential) -> None:
    """As with the weights of any model that an optimizer has changed in place."""
    subspace = attach(model, d=9)
    step(subspace)
    loss = loss_of(model)
    loss.backward(retain_graph=True)
    step(subspace)
    loss_of(model)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_memory_first_used_in_inference_mode_serves_training(model: nn.Sequential) -> None:
    subspace = attach(model, d=9)
    step(subspace)
    with torch.inference_mode():
        loss_of(model)
    loss_of(model).backward()
    assert subspace.z.grad is not None


def test_a_layers_gradient_is_projected_before_the_next_layers_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(5)))
    attach(model, d=9, groups="module")
    order = []
    derivatives = GroupRows.derivatives

    def recorded(*call: Any, **options: Any) -> Any:
        order.append("projected")
        return derivatives(*call, **options)

    monkeypatch.setattr(GroupRows, "derivatives", recorded)

    def watch(_: nn.Module, inputs: tuple[Tensor]) -> None:
        if inputs[0].requires_grad:
            inputs[0].register_hook(lambda _: order.append("passed"))

    for layer in model:
        if isinstance(layer, nn.Linear):
            layer.register_forward_pre_hook(watch)
    model(torch.randn(2, 4)).square().sum().backward()
    assert order.count("projected") == 5
    # Between two projections the gradient passes one layer, not all of them.
    waiting = [order[:i].count("passed") - order[:i].count("projected") for i in range(len(order))]
    assert max(waiting) <= 1


def test_free_sets_are_let_go() -> None:
    buffers, like = BufferPool(), [torch.zeros(3), torch.zeros(2, 2)]
    one = buffers.lease(like)
    one.pending = True
    two = buffers.lease(like)
    assert two.tensors[0].data_ptr() != one.tensors[0].data_ptr()
    one.pending = False
    three = buffers.lease(like)
    assert len(buffers._sets) == 1
    assert three.tensors[0] is two.tensors[0] or three.tensors[0] is one.tensors[0]


def test_a_cast_model_gets_other_memory() -> None:
    buffers, like = BufferPool(), [torch.zeros(3)]
    buffers.lease(like)
    assert buffers.lease([torch.zeros(3).bfloat16()]).tensors[0].dtype == torch.bfloat16
