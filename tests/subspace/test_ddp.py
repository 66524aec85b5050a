"""Two processes: the same gradient as one, and d numbers on the wire."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from d90.errors import D90Error
from d90.subspace import attach

METHODS = ("did", "said")


def small(method: str, head_seed: int = 0) -> nn.Module:
    """A model somewhere in a subspace of 20 numbers."""
    torch.manual_seed(0)
    body = nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7))
    torch.manual_seed(head_seed)
    model = nn.Sequential(body, nn.Linear(7, 2)).eval()
    subspace = attach(model, d=20, method=method, groups="module")
    with torch.no_grad():
        for vector in subspace.parameters():
            vector.add_(torch.linspace(-0.2, 0.3, len(vector)))
    return model


def data() -> Tensor:
    return torch.randn(8, 5, generator=torch.Generator().manual_seed(2))


def gradient(model: nn.Module) -> list[Tensor]:
    return [p.grad for p in model.parameters() if p.grad is not None]


def count(sent, bucket):
    """Not annotated: DDP reads a hook's annotations, and cannot read those of the future."""
    sent.append(bucket.buffer().numel())
    return allreduce_hook(None, bucket)  # type: ignore[reportArgumentType]


def refuse(tensor: Tensor) -> list:
    raise AssertionError("a tensor is read")


def one_of_two(rank: int, folder: str) -> None:
    """Saves its gradients and how many numbers travelled; sees another head refused."""
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    for method in METHODS:
        model = DistributedDataParallel(small(method))
        sent: list[int] = []
        model.register_comm_hook(sent, count)
        for _ in range(2):
            model.zero_grad()
            model(data()[rank::2]).square().mean().backward()
        result = {
            "gradient": gradient(model),
            "sent": sent,
            "broadcast": sum(buffer.numel() for buffer in model.modules_buffers),
        }
        torch.save(result, f"{folder}/{method}{rank}.pt")
    model = DistributedDataParallel(small("did"))
    model(data())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tensor, "tolist", refuse)
        for _ in range(2):  # The checksum is read in the first forward pass alone.
            model(data()).mean().backward()
            with torch.no_grad():
                model.module.subspace.z.add_(0.1)
    head = small("did", head_seed=rank)
    head(data())  # Before DDP sends the checksum of rank 0, nothing can be wrong.
    other = DistributedDataParallel(head)
    if rank == 0:
        other(data())
    else:
        with pytest.raises(D90Error, match="theta_0 or the seed on this rank differs from rank 0"):
            other(data())
    dist.destroy_process_group()


def test_two_processes(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(one_of_two, (str(tmp_path),), nprocs=2)  # type: ignore[reportPrivateImportUsage]
    for method in METHODS:
        model = small(method)
        losses = [model(data()[rank::2]).square().mean() for rank in range(2)]
        ((losses[0] + losses[1]) / 2).backward()
        for rank in range(2):
            result = torch.load(tmp_path / f"{method}{rank}.pt", weights_only=True)
            assert sum(result["sent"]) == 2 * 20
            # The buffers of the batch norm and a checksum of two numbers: no theta_0.
            assert result["broadcast"] == 7 + 7 + 1 + 2
            for got, want in zip(result["gradient"], gradient(model), strict=True):
                torch.testing.assert_close(got, want)
