"""A model as a function of z: what it keeps, what it saves, when it computes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from d90.errors import D90Error
from d90.projections import PROJECTIONS, make_projection
from d90.subspace import GROUPINGS, SCALES, Subspace, attach, detach, hold, merge
from d90.subspace.ops import GroupRows


class Recurrent(nn.Module):
    """Everything that is awkward: a tie, an LSTM, a frozen table, a buffer, odd strides."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(9, 6)
        self.table.weight.requires_grad_(False)
        self.blocks = nn.ModuleList([nn.Linear(6, 6, bias=i == 1) for i in range(3)])
        self.blocks[2].weight = self.blocks[0].weight
        self.blocks[1].weight = nn.Parameter(torch.randn(6, 6).t())
        self.norm = nn.BatchNorm1d(6)
        self.lstm = nn.LSTM(6, 4, batch_first=True)
        self.head = nn.Linear(4, 3)
        self.register_buffer("steps", torch.arange(2))
        self.checkpointing: bool | None = None

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.table(tokens)
        for block in self.blocks:
            x = self._run(block, x).tanh()
        x = self.norm(x.transpose(1, 2)).transpose(1, 2)
        # As recurrent models do for their first state.
        first = next(self.lstm.parameters()).new_zeros(1, len(x), 4)
        return self._run(lambda x: self.head(self.lstm(x, (first, first))[0][:, -1]), x)

    def _run(self, part: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        if self.checkpointing is None or not torch.is_grad_enabled():
            return part(x)
        return checkpoint(part, x.requires_grad_(), use_reentrant=self.checkpointing)


@pytest.fixture
def model() -> Recurrent:
    torch.manual_seed(0)
    return Recurrent().eval()


@pytest.fixture
def tokens() -> Tensor:
    return torch.arange(12).view(3, 4) % 9


def randomize(subspace: Subspace) -> None:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        subspace.z.normal_(generator=generator)
        if subspace.lam is not None:
            subspace.lam.uniform_(0.5, 1.5, generator=generator)


def gradients(model: nn.Module) -> list[Tensor]:
    grads = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    return grads


@pytest.mark.parametrize("method", ["did", "said"])
@pytest.mark.parametrize("groups", GROUPINGS)
@pytest.mark.parametrize("scale", SCALES)
def test_theta_is_the_formula(
    model: Recurrent, tokens: Tensor, method: Any, groups: str, scale: str
) -> None:
    theta_0 = {name: p.detach().clone() for name, p in model.named_parameters()}
    subspace = attach(model, d=30, method=method, groups=groups, scale=scale, seed=5)
    randomize(subspace)
    model(tokens)
    layout = subspace.layout
    assert subspace.m == (layout.m if method == "said" else 0)
    P = make_projection("fastfood", d=30 - subspace.m, D=layout.D, seed=5)
    step = P.apply(subspace.z.detach(), 0, layout.D)
    lam = iter(torch.ones(layout.m) if subspace.lam is None else subspace.lam.detach())
    for group in layout.groups:
        factor = next(lam) if group.trainable else torch.ones(())
        for param_slice in group.slices:
            moved = (
                param_slice.scale
                * factor
                * step[param_slice.offset : param_slice.offset + param_slice.size]
            )
            expected = theta_0[param_slice.name] + moved.view(param_slice.shape)
            for name in (param_slice.name, *param_slice.aliases):
                torch.testing.assert_close(_at(model, name), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", ["did", "said"])
def test_exactly_d_numbers(model: Recurrent, method: Any) -> None:
    attach(model, d=17, method=method)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    names = ["subspace.z", "subspace.lam"] if method == "said" else ["subspace.z"]
    assert list(trained) == names
    assert sum(p.numel() for p in trained.values()) == 17
    state = model.state_dict()
    assert list(state) == names
    assert sum(tensor.numel() for tensor in state.values()) == 17
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    assert frozen == ["table.weight"]


def test_without_frozen_weights_the_parameters_are_z_and_lam() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 2))
    subspace = attach(model, d=9, method="said")
    assert list(model.parameters()) == list(subspace.parameters())
    half = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2)).bfloat16()
    subspace = attach(half, d=9)
    assert next(half.get_submodule("1").parameters()).dtype == torch.bfloat16
    assert [p for p in half.parameters() if p.numel()] == [subspace.z]


def test_an_nn_sequential_still_runs_its_children() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 2))
    x = torch.randn(4, 3)
    before = model(x)
    attach(model, d=9)
    assert torch.equal(model(x), before)


@pytest.mark.parametrize("method", ["did", "said"])
@pytest.mark.parametrize("projection", PROJECTIONS)
def test_finite_differences(tokens: Tensor, method: Any, projection: str) -> None:
    torch.manual_seed(0)
    model = Recurrent().double().eval()
    subspace = attach(model, d=12, method=method, projection=projection)
    assert subspace.z.dtype == torch.float64
    randomize(subspace)
    leaves = list(subspace.parameters())

    def loss(*values: Tensor) -> Tensor:
        with torch.no_grad():
            for leaf, value in zip(leaves, values, strict=True):
                leaf.copy_(value)
            return model(tokens).square().sum()

    model(tokens).square().sum().backward()
    start = [leaf.detach().clone() for leaf in leaves]
    for i, leaf in enumerate(leaves):
        assert leaf.grad is not None
        for j in range(len(leaf)):
            ends = []
            for step in (1e-6, -1e-6):
                moved = [value.clone() for value in start]
                moved[i][j] += step
                ends.append(loss(*moved))
            slope = (ends[0] - ends[1]) / 2e-6
            torch.testing.assert_close(leaf.grad[j], slope, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("method", ["did", "said"])
def test_merge_leaves_theta(model: Recurrent, tokens: Tensor, method: Any) -> None:
    before = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    subspace = attach(model, d=17, method=method)
    randomize(subspace)
    output = model(tokens)
    theta = {param_slice.name: w.clone() for param_slice, w in subspace.theta.items()}
    merge(model)
    assert [name for name, _ in model.named_parameters(remove_duplicate=False)] == before
    assert all(torch.equal(model.get_parameter(name), w) for name, w in theta.items())
    assert torch.equal(model(tokens), output)
    assert model.blocks[0].weight is model.blocks[2].weight
    with pytest.raises(D90Error, match="has no subspace"):
        merge(model)


def test_detach_restores_everything(model: Recurrent, tokens: Tensor) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    parameters = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    attributes = set(model.__dict__)
    modules = [name for name, _ in model.named_modules()]
    output = model(tokens)
    subspace = attach(model, d=17)
    randomize(subspace)
    model(tokens)
    detach(model)
    assert torch.equal(model(tokens), output)
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert [name for name, _ in model.named_parameters(remove_duplicate=False)] == parameters
    assert [name for name, _ in model.named_modules()] == modules
    assert set(model.__dict__) == attributes
    assert model.blocks[0].weight is model.blocks[2].weight
    assert not model.get_parameter("blocks.1.weight").is_contiguous()
    model(tokens).sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    attach(model, d=17)
    detach(model)


def test_state_dict_round_trip(model: Recurrent, tokens: Tensor) -> None:
    randomize(attach(model, d=17, method="said"))
    saved, output = model.state_dict(), model(tokens)
    torch.manual_seed(0)
    other = Recurrent().eval()
    attach(other, d=17, method="said")
    other(tokens)
    assert other.load_state_dict(saved).missing_keys == []
    assert torch.equal(other(tokens), output)
    with pytest.raises(RuntimeError, match="Missing key"):
        other.load_state_dict({"subspace.z": saved["subspace.z"]})
    with pytest.raises(RuntimeError, match="Unexpected key"):
        other.load_state_dict(saved | {"head.weight": torch.zeros(3, 4)})


def test_state_dict_inside_a_larger_model(model: Recurrent) -> None:
    attach(model, d=17)
    wrapper = nn.ModuleDict({"model": model, "more": nn.Linear(2, 2)})
    state = wrapper.state_dict()
    assert list(state) == ["model.subspace.z", "more.weight", "more.bias"]
    wrapper.load_state_dict(state)
    with pytest.raises(RuntimeError, match=r"more\.bias"):
        wrapper.load_state_dict({key: state[key] for key in list(state)[:2]})


def test_a_buffer_still_changes(model: Recurrent, tokens: Tensor) -> None:
    attach(model, d=17)
    before = model.norm.get_buffer("running_mean").clone()
    model.train()(tokens)
    assert not torch.equal(model.norm.get_buffer("running_mean"), before)


@dataclass
class Writes:
    """The calls of the projection for theta: the tensors that each wrote, and the grad modes."""

    tensors: list[int] = field(default_factory=list)
    grad: set[bool] = field(default_factory=set)

    def clear(self) -> None:
        self.tensors.clear()
        self.grad.clear()


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> Writes:
    writes, write = Writes(), GroupRows.write

    def recorded(rows: GroupRows, z: Tensor, lam: Tensor | None, *tensors: list[Tensor]) -> None:
        writes.tensors.append(len(tensors[1]))
        writes.grad.add(torch.is_grad_enabled())
        write(rows, z, lam, *tensors)

    monkeypatch.setattr(GroupRows, "write", recorded)
    return writes


@pytest.mark.parametrize("method", ["did", "said"])
def test_theta_is_computed_when_z_changes_and_not_otherwise(
    model: Recurrent, tokens: Tensor, method: str, computed: Writes
) -> None:
    subspace = attach(model, d=17, method=method)
    # In DID every group is written by the same call.
    calls = subspace.m or 1

    def forwards(grad: bool) -> int:
        computed.clear()
        with torch.set_grad_enabled(grad):
            model(tokens)
        assert computed.grad <= {grad}
        assert sum(computed.tensors) in (0, len(subspace.layout.slices))
        return len(computed.tensors)

    # At the start theta is theta_0 itself, and evaluating it costs nothing.
    assert forwards(False) == 0
    assert forwards(True) == calls
    assert forwards(True) == forwards(False) == 0
    subspace.z.data.add_(1)
    assert forwards(False) == calls
    assert forwards(False) == 0
    assert forwards(True) == calls
    with torch.no_grad():
        subspace.z[3] += 1
    assert forwards(True) == calls
    with torch.inference_mode():
        subspace.z.data.add_(1)
        model(tokens)
    assert forwards(False) == 0
    assert forwards(True) == calls


def test_a_held_model_compares_once(model: Recurrent, tokens: Tensor) -> None:
    subspace = attach(model, d=17, method="said")
    randomize(subspace)
    with torch.no_grad():
        first = model(tokens)
        with hold(model):
            assert torch.equal(model(tokens), first)
            subspace.z.data.add_(1)  # Seen only by a comparison.
            assert torch.equal(model(tokens), first)
        moved = model(tokens)
        assert not torch.allclose(moved, first)
        subspace.z.data.sub_(2)
        with hold(model):  # The first forward pass inside compares.
            assert not torch.allclose(model(tokens), moved)
    with hold(model):
        loss_of(model, tokens).backward()
        held = gradients(model)
    loss_of(model, tokens).backward()
    for got, want in zip(held, gradients(model), strict=True):
        assert torch.equal(got, want)
    detach(model)
    with hold(model):
        model(tokens)


def test_a_parameter_that_was_replaced_is_seen(model: Recurrent, tokens: Tensor) -> None:
    subspace = attach(model, d=17)
    model(tokens)
    other = {"subspace.z": subspace.z.detach() + 0.5}
    model.load_state_dict(other, assign=True)
    loss_of(model, tokens).backward()
    assert subspace.z.grad is not None


@pytest.mark.parametrize("method", ["did", "said"])
def test_second_derivatives_are_refused(model: Recurrent, method: str) -> None:
    subspace = attach(model, d=17, method=method)
    randomize(subspace)
    subspace.materialize()
    loss = model.head.weight.square().sum()
    (gradient,) = torch.autograd.grad(loss, subspace.z, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_matrices_that_stay_are_not_computed(model: Recurrent, computed: Writes) -> None:
    subspace = attach(model, d=17, scale="vectors")
    randomize(subspace)
    subspace.materialize()
    moving = [s for group in subspace.layout.trainable for s in group.trainable]
    assert computed.tensors == [len(moving)]
    assert len(moving) < len(subspace.layout.slices)
    assert model.lstm.weight_hh_l0 is not None
    assert not model.lstm.weight_hh_l0.requires_grad
    assert model.lstm.bias_hh_l0.requires_grad
    assert model.head.weight.requires_grad


def loss_of(model: nn.Module, tokens: Tensor) -> Tensor:
    return model(tokens).square().sum()


@pytest.mark.parametrize("method", ["did", "said"])
@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing(
    model: Recurrent, tokens: Tensor, method: Any, reentrant: bool
) -> None:
    randomize(attach(model, d=17, method=method))
    loss_of(model, tokens).backward()
    expected = gradients(model)
    model.checkpointing = reentrant
    loss_of(model, tokens).backward()
    for got, want in zip(gradients(model), expected, strict=True):
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize("method", ["did", "said"])
@pytest.mark.parametrize("reentrant", [None, True, False])
def test_orders_of_forward_and_backward(
    model: Recurrent, tokens: Tensor, method: Any, reentrant: bool | None
) -> None:
    model.checkpointing = reentrant
    subspace = attach(model, d=17, method=method)
    randomize(subspace)
    singles = []
    for batch in (tokens, tokens.flip(1)):
        loss_of(model, batch).backward()
        singles.append(gradients(model))
    expected = [left + right for left, right in zip(*singles, strict=True)]

    def accumulated() -> None:
        loss_of(model, tokens).backward()
        loss_of(model, tokens.flip(1)).backward()

    def two_forwards_one_backward() -> None:
        (loss_of(model, tokens) + loss_of(model, tokens.flip(1))).backward()

    def two_forwards_two_backwards() -> None:
        losses = [loss_of(model, tokens), loss_of(model, tokens.flip(1))]
        for loss in losses:
            loss.backward()

    def evaluation_in_between() -> None:
        loss = loss_of(model, tokens)
        with torch.no_grad():
            model(tokens)
        loss.backward()
        with torch.no_grad():
            model(tokens)
        loss_of(model, tokens.flip(1)).backward()

    for order in (
        accumulated,
        two_forwards_one_backward,
        two_forwards_two_backwards,
        evaluation_in_between,
    ):
        order()
        for got, want in zip(gradients(model), expected, strict=True):
            torch.testing.assert_close(got, want, msg=order.__name__)


def test_a_step_between_forward_and_backward_changes_nothing(
    model: Recurrent, tokens: Tensor
) -> None:
    subspace = attach(model, d=17, method="said")
    randomize(subspace)
    loss_of(model, tokens).backward()
    expected = gradients(model)
    loss = loss_of(model, tokens)
    with torch.no_grad():
        for vector in subspace.parameters():
            vector.add_(1)
        model(tokens)
    loss.backward()
    for got, want in zip(gradients(model), expected, strict=True):
        torch.testing.assert_close(got, want)


def test_frozen_z_needs_no_graph(model: Recurrent, tokens: Tensor) -> None:
    subspace = attach(model, d=17)
    subspace.requires_grad_(False)
    randomize(subspace)
    assert not model(tokens).requires_grad


def test_moving_the_model_moves_everything(model: Recurrent, tokens: Tensor) -> None:
    subspace = attach(model, d=17, method="said")
    randomize(subspace)
    single = model(tokens)
    model.double()
    assert {t.dtype for t in (*subspace.parameters(), *subspace.theta_0.values())} == {
        torch.float64
    }
    output = model(tokens)
    assert output.dtype == torch.float64
    torch.testing.assert_close(output.float(), single, rtol=1e-3, atol=1e-3)
    output.sum().backward()
    model.to("meta")
    assert subspace.z.device.type == "meta"
    assert all(t.device.type == "meta" for t in subspace.theta_0.values())


def test_dtypes_are_kept() -> None:
    dtypes = [torch.float16, torch.bfloat16, torch.float32]
    model = nn.Sequential(*[nn.Linear(3, 3, dtype=dtype) for dtype in dtypes])
    subspace = attach(model, d=5)
    randomize(subspace)
    subspace.materialize()
    assert [m.weight.dtype for m in model if isinstance(m, nn.Linear)] == dtypes


def test_the_same_seed_is_the_same_model_and_another_is_not(
    model: Recurrent, tokens: Tensor
) -> None:
    outputs = []
    for seed in (3, 3, 4):
        randomize(attach(model, d=17, seed=seed))
        outputs.append(model(tokens))
        detach(model)
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])


@pytest.mark.parametrize("projection", PROJECTIONS)
@pytest.mark.parametrize("d", [1, 8])
def test_d_equal_to_D_and_to_one(d: int, projection: str) -> None:
    model = nn.Linear(3, 2)
    theta_0 = torch.cat([p.detach().flatten() for p in model.parameters()])
    subspace = attach(model, d=d, projection=projection, scale="model", seed=5)
    randomize(subspace)
    model(torch.ones(1, 3)).sum().backward()
    P = make_projection(projection, D=8, d=d, seed=5)
    z, gradient = subspace.z.detach(), torch.cat([torch.ones(6), torch.ones(2)])
    torch.testing.assert_close(subspace.z.grad, P.adjoint(gradient, 0, 8))
    subspace.materialize()
    theta = torch.cat([model.weight.detach().flatten(), model.bias.detach()])
    torch.testing.assert_close(theta, theta_0 + P.apply(z, 0, 8))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"d": 0}, "d is 0: expected a whole number, at least 1"),
        ({"d": 2.5}, r"d is 2\.5"),
        ({"d": 10**6}, r"d = 1000000 is larger than D = \d+, the number of trainable weights"),
        (
            {"d": 5, "method": "said"},
            "d = 5 is too small .*'layer': 5 of the d .*choose d > 5",
        ),
        ({"d": 10, "method": "said", "groups": "tensor"}, "'tensor': 11 of"),
        ({"d": 5, "method": "sad"}, "unknown method 'sad': did you mean 'said'"),
        ({"d": 5, "groups": "layers"}, "unknown groups 'layers': did you mean 'layer'"),
        ({"d": 5, "projection": "fastfod"}, "unknown projection 'fastfod': did you mean"),
        ({"d": 5, "scale": "rsm"}, "unknown scale 'rsm': did you mean 'rms'"),
        ({"d": 5, "seed": -1}, "seed is -1"),
    ],
)
def test_bad_input_leaves_the_model_as_it_was(
    model: Recurrent, given: dict[str, Any], message: str
) -> None:
    names = [name for name, _ in model.named_parameters()]
    with pytest.raises(D90Error, match=message):
        attach(model, **given)
    assert [name for name, _ in model.named_parameters()] == names
    assert not hasattr(model, "subspace")


def test_attach_twice_and_detach_once(model: Recurrent) -> None:
    with pytest.raises(D90Error, match=r"has no subspace: call attach\(model"):
        detach(model)
    attach(model, d=17)
    with pytest.raises(D90Error, match=r"call detach\(model\) first"):
        attach(model, d=17)


def _at(model: nn.Module, name: str) -> Tensor:
    owner, _, attribute = name.rpartition(".")
    return getattr(model.get_submodule(owner), attribute).detach()
