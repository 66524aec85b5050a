"""A model in slices over two processes: the theta, the z and the answers of a whole one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from benchmarks.wire.counter import count_bytes, gradient_bytes
from tests.helpers.gloo import pair
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from d90.errors import D90Error
from d90.subspace import attach
from d90.subspace.fsdp import ShardedSubspace, attach_sharded
from d90.subspace.layout import build_layout, find_params
from d90.subspace.ops import GroupRows

D_SMALL, STEPS = 20, 5
CASES = {
    "did": {"method": "did"},
    "said": {"method": "said"},
    "onehot": {"projection": "onehot", "groups": "tensor"},
    "vectors": {"scale": "vectors"},
    "rms": {"method": "said", "scale": "rms", "seed": 2**63 + 5},
}


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(7, 7), nn.LayerNorm(7)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.tanh(self.linear(self.norm(x)))


class Language(nn.Module):
    """Embeddings tied to the output, blocks, and a head: no size but one is even."""

    def __init__(self, block: type[Block] = Block) -> None:
        super().__init__()
        self.words = nn.Embedding(11, 7)
        self.blocks = nn.ModuleList(block() for _ in range(3))
        self.out = nn.Linear(7, 11, bias=False)
        self.out.weight = self.words.weight
        self.head = nn.Linear(11, 1)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids)
        for block in self.blocks:
            x = block(x)
        return self.head(self.out(x)).squeeze(-1)


def language(block: type[Block] = Block) -> Language:
    torch.manual_seed(0)
    return Language(block).double()


def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(11, (8, 4), generator=generator)
    return ids, torch.randn(8, 4, generator=generator, dtype=torch.float64)


def loss_of(model: nn.Module, rows: slice) -> Tensor:
    ids, expected = data()
    return (model(ids[rows]) - expected[rows]).square().mean()


def sharded(kind: type[Block] = Block) -> Language:
    model, mesh = language(kind), init_device_mesh("cpu", (2,))
    for block in model.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    result: dict[str, Any] = dict(model.named_parameters())
    return {name: slices.full_tensor() for name, slices in result.items()}


@contextmanager
def counted_calls(subspace: ShardedSubspace) -> Iterator[Counter[str]]:
    """Calls of the projection, and gradients of shards that are alive beside those projected."""
    calls, write, pull_back = Counter[str](), GroupRows.write, GroupRows.pull_back

    def counted_write(*given: Any) -> None:
        calls["write"] += 1
        write(*given)

    def counted_pull_back(*given: Any) -> Tensor:
        calls["pull_back"] += 1
        calls["alive"] += sum(s.parameter.grad is not None for s in subspace._shards)
        return pull_back(*given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GroupRows, "write", counted_write)
        patch.setattr(GroupRows, "pull_back", counted_pull_back)
        yield calls


class Spare(Block):
    """A block with tensors that no forward pass uses."""

    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Linear(7, 2)


def with_unused_tensors(rank: int) -> dict[str, Any]:
    """The gradient of two backward passes, where no group ever has all of its gradients."""
    model = sharded(Spare)
    subspace = attach_sharded(model, d=D_SMALL, method="said")
    with torch.no_grad():
        subspace.z.add_(0.1)
    waiting = 0
    for half in (slice(rank, 4, 2), slice(4 + rank, 8, 2)):
        (loss_of(model, half) / 2).backward()
        waiting = len({shard.rows.group for shard in subspace._waiting})
    subspace.reduce_gradient()
    gradients = [p.grad for p in subspace.parameters()]
    alive = sum(p.grad is not None for p in model.parameters())
    return {"gradients": gradients, "waiting": waiting, "alive": alive}


def train(rank: int, options: dict[str, Any]) -> dict[str, Any]:
    """Five updates of two backward passes, each process with its half of the rows."""
    model = sharded()
    before = weights_of(model)
    subspace = attach_sharded(model, d=D_SMALL, **options)
    optimizer = torch.optim.Adam(subspace.parameters(), lr=0.05)
    sent = Counter[str]()
    calls = Counter[str]()
    for _ in range(STEPS):
        for half in (slice(rank, 4, 2), slice(4 + rank, 8, 2)):
            with counted_calls(subspace) as counted:
                (loss_of(model, half) / 2).backward()
            calls.update(counted)
        with count_bytes() as counted:
            subspace.reduce_gradient()
        sent.update(counted)
        optimizer.step()
        optimizer.zero_grad()
    model.eval()
    with torch.no_grad():
        answers = [model(data()[0])]
        subspace.z.mul_(2)  # An evaluation leaves layers gathered: they must not be stale.
        answers.append(model(data()[0]))
    result = {
        "z": subspace.z.detach() / 2,
        "lam": None if subspace.lam is None else subspace.lam.detach(),
        "answers": answers,
        "num_params": subspace.num_local_params,
        "gradients": sum(p.grad is not None for p in model.parameters()),
        "sent": sent,
        "calls": calls,
        "groups": len({s.rows.group for s in subspace._shards if s.theta_0.numel()}),
    }
    subspace.detach()
    after = weights_of(model)
    result["restored"] = all(torch.equal(after[name], before[name]) for name in before)
    result["layout"] = subspace.layout
    return result


def refusals(rank: int) -> dict[str, str]:
    def error_of(model: nn.Module, **options: Any) -> str:
        with pytest.raises(D90Error) as error:
            attach_sharded(model, **{"d": D_SMALL, **options})
        return str(error.value)

    return {
        "whole": error_of(language()),
        "seed": error_of(sharded(), seed=rank),
        "large": error_of(sharded(), d=10**6),
        "method": error_of(sharded(), method="dad"),
    }


def everything(rank: int) -> dict[str, Any]:
    runs = {name: train(rank, case) for name, case in CASES.items()}
    return {**runs, "unused": with_unused_tensors(rank), "no": refusals(rank)}


@pytest.fixture(scope="module")
def results() -> list[dict[str, Any]]:
    return pair().run(everything)


def whole(options: dict[str, Any]) -> tuple[nn.Module, Any]:
    """The same updates of the whole model in one process."""
    model = language()
    subspace = attach(model, d=D_SMALL, **options)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(STEPS):
        for half in (slice(0, 4), slice(4, 8)):
            (loss_of(model, half) / 2).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval(), subspace


@pytest.mark.parametrize("name", CASES)
def test_shards_train_as_the_whole_model(results, name: str) -> None:
    model, subspace = whole(CASES[name])
    first, second = (result[name] for result in results)
    assert float(subspace.z.detach().abs().max()) > 0.05
    for number in ("z", "lam"):
        want = getattr(subspace, number)
        if want is not None:
            assert torch.equal(first[number], second[number])
            torch.testing.assert_close(first[number], want.detach(), rtol=1e-9, atol=1e-11)
    with torch.no_grad():
        answers = [model(data()[0])]
        subspace.z.mul_(2)
        answers.append(model(data()[0]))
    for got, want in zip(first["answers"], answers, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-11)
    assert not torch.allclose(*answers)


@pytest.mark.parametrize("name", CASES)
def test_only_the_gradient_of_d_parameters_is_exchanged(results, name: str) -> None:
    for result in results:
        assert gradient_bytes(result[name]["sent"]) == STEPS * D_SMALL * 8
        assert result[name]["gradients"] == 0


@pytest.mark.parametrize("name", CASES)
def test_the_projection_is_called_group_by_group(results, name: str) -> None:
    for result in (result[name] for result in results):
        calls, groups = result["calls"], result["groups"]
        # Nothing is written in the first step, where z is zero.
        assert calls["write"] == (STEPS - 1) * (1 if result["lam"] is None else groups)
        assert calls["pull_back"] == 2 * STEPS * groups
        assert calls["alive"] == 0


def test_gradients_of_a_group_with_unused_tensors(results) -> None:
    model = language(Spare)
    subspace = attach(model, d=D_SMALL, method="said")
    with torch.no_grad():
        subspace.z.add_(0.1)
    for half in (slice(0, 4), slice(4, 8)):
        (loss_of(model, half) / 2).backward()
    for result in (result["unused"] for result in results):
        for got, want in zip(result["gradients"], subspace.parameters(), strict=True):
            torch.testing.assert_close(got, want.grad, rtol=1e-9, atol=1e-11)
        assert result["waiting"] <= 1
        assert result["alive"] == 0


def test_each_rank_holds_its_shards_and_tied_weights_once(results) -> None:
    num_params = [result["did"]["num_params"] for result in results]
    D = 11 * 7 + 3 * (7 * 7 + 3 * 7) + 11 + 1
    assert sum(num_params) == D
    # 6 of 11 rows, 4 of 7, and the head, whose one row is in the first process.
    assert num_params == [6 * 7 + 3 * (4 * 7 + 3 * 4) + 11 + 1, 5 * 7 + 3 * (3 * 7 + 3 * 3)]
    assert all(result["did"]["restored"] for result in results)


@pytest.mark.parametrize("name", CASES)
def test_the_layout_is_that_of_the_whole_model(results, name: str) -> None:
    model, options = language(), CASES[name]
    kind = {"groups": options.get("groups", "layer"), "scale": options.get("scale", "tensor")}
    layout, _ = build_layout(model, find_params(model), **kind)
    assert results[0][name]["layout"].slices == results[1][name]["layout"].slices == layout.slices
    assert [len(group.slices) for group in results[0][name]["layout"].groups] == [
        len(group.slices) for group in layout.groups
    ]


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("whole", "parameter words.weight is not sharded: call fully_shard"),
        ("seed", "process 1 has other options than process 0 for the same subspace"),
        ("large", "is larger than D ="),
        ("method", "unknown method 'dad'"),
    ],
)
def test_errors(results, what: str, message: str) -> None:
    assert message in results[0]["no"][what]
    assert results[0]["no"][what] == results[1]["no"][what]
