"""The predicted memory of a run."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch

from d90.errors import D90Error
from d90.models import loading
from d90.training import memory
from d90.training.memory import available_memory, check_memory, estimate_memory, is_out_of_memory

BATCH = {"batch_size": 8, "max_length": 16}


def test_full_fine_tuning_keeps_five_numbers_a_weight_with_adam(tiny_folder: Path):
    model = loading.load_meta(str(tiny_folder), num_labels=2)
    weights = 4 * sum(p.numel() for p in model.parameters())
    need = estimate_memory(model, d=None, optimizer="adamw", **BATCH)
    assert (need.base, need.weights, need.gradients, need.optimizer) == (
        weights,
        weights,
        weights,
        2 * weights,
    )
    assert need.theta == 0
    # 2 layers, 4-byte numbers, equation 1 by hand: s b h (34 + 5 a s / h).
    assert need.activations == 2 * 2 * 16 * 8 * 16 * (34 + 5 * 2 * 16 // 16)


def test_subspace_keeps_theta_and_theta_0_once_but_d_numbers_of_state(tiny_folder: Path):
    model = loading.load_meta(str(tiny_folder), num_labels=2, dtype="bfloat16")
    weights = 2 * sum(p.numel() for p in model.parameters())
    need = estimate_memory(model, d=100, optimizer="adam", **BATCH)
    assert (need.base, need.weights, need.theta) == (weights, 0, weights)
    assert need.optimizer == 800
    # One layer's gradient at a time, and the d numbers' own.
    block = sum(p.numel() for n, p in model.named_parameters() if "encoder.layer.0." in n)
    assert need.gradients == 2 * block + 400
    assert need.total == sum(vars(need).values())


def test_check_stops_what_cannot_fit(tiny_folder: Path):
    model = loading.load_meta(str(tiny_folder), num_labels=2)
    need = estimate_memory(model, d=None, optimizer="adam", **BATCH)
    cpu = torch.device("cpu")
    assert available_memory(cpu) > need.total
    check_memory("tiny", need, cpu)
    monstrous = estimate_memory(model, d=None, optimizer="adam", batch_size=2**30, max_length=16)
    with pytest.raises(D90Error, match="model 'tiny' needs about"):
        check_memory("tiny", monstrous, cpu)


def test_theta_0_may_stay_on_the_host_of_a_gpu(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = loading.load_meta(str(tiny_folder), num_labels=2)
    need = estimate_memory(model, d=None, optimizer="adam", **BATCH)
    monkeypatch.setattr(memory, "available_memory", lambda _: need.total - need.base)
    check_memory("tiny", need, torch.device("cuda"))
    with pytest.raises(D90Error, match="model 'tiny' needs about"):
        check_memory("tiny", need, torch.device("cpu"))


class FakeAcceleratorError(RuntimeError):
    """As torch.AcceleratorError, which torch before 2.8 does not have."""


OUT_OF_MEMORY = [
    MemoryError(),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
    FakeAcceleratorError("CUDA error: out of memory\nSearch for `cudaErrorMemoryAllocation'"),
    RuntimeError("CUDA driver error: out of memory"),
    RuntimeError("Triton Error [CUDA]: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 8 bytes."),
]
OTHER = [
    OSError(errno.ENOENT, "out of memory"),
    ValueError("out of memory"),
    RuntimeError("CUDA error: an illegal memory access was encountered"),
    RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`"),
    RuntimeError("out of resource: shared memory, Required: 262144, Hardware limit: 232448"),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=str)
def test_errors_that_mean_out_of_memory(error: Exception) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize("error", OTHER, ids=str)
def test_errors_that_mean_something_else(error: Exception) -> None:
    assert not is_out_of_memory(error)
