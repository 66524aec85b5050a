"""The predicted memory of a run."""

from __future__ import annotations

import errno
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.helpers import tiny
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from d90.errors import D90Error
from d90.models import loading
from d90.tasks.kinds import Generation
from d90.training import memory
from d90.training.data import tokenize
from d90.training.memory import available_memory, check_memory, estimate_memory, is_out_of_memory

BATCH: dict[str, Any] = {"batch_size": 8, "max_length": 16}


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
    assert (need.temporaries, need.casts) == (800, 0)
    assert need.total == 2 * weights + need.gradients + 800 + need.activations


# The tiny model: 2 layers of width 16 and 32, 2 heads; a pooler and a head for 2 classes.
MATRICES = 2 * (4 * 16 * 16 + 2 * 16 * 32) + 16 * 16 + 2 * 16


def test_autocast_keeps_bf16_copies_of_matrices_and_of_activations(tiny_folder: Path):
    model = loading.load_meta(str(tiny_folder), num_labels=2)
    need = estimate_memory(model, d=100, optimizer="adam", precision="bf16", **BATCH)
    assert need.casts == 2 * MATRICES
    assert need.activations == 2 * 16 * 8 * (42 * 16 + 7 * 2 * 16)
    assert need.total == need.base + need.theta + need.gradients + need.optimizer + (
        need.casts + need.activations
    )
    half = loading.load_meta(str(tiny_folder), num_labels=2, dtype="bfloat16")
    assert estimate_memory(half, d=100, optimizer="adam", precision="bf16", **BATCH).casts == 0


def test_adam_has_temporaries_of_all_tensors_on_a_gpu_and_of_one_on_the_cpu(tiny_folder: Path):
    model = loading.load_meta(str(tiny_folder), num_labels=2)
    weights = 4 * sum(p.numel() for p in model.parameters())
    largest = 4 * max(p.numel() for p in model.parameters())
    batch: dict[str, Any] = {"batch_size": 1, "max_length": 1}

    def temporaries(optimizer: str, device: str, d: int | None = None) -> int:
        need = estimate_memory(
            model, d=d, optimizer=optimizer, device=torch.device(device), **batch
        )
        kept = need.base + need.weights + need.theta + need.gradients + need.optimizer
        assert need.total == kept + max(need.temporaries, need.activations)
        return need.temporaries

    assert temporaries("adamw", "cuda") == weights
    assert temporaries("adamw", "cpu") == 2 * largest
    assert temporaries("sgd", "cuda") == 0
    assert temporaries("adam", "cuda", d=100) == 400


class Allocations(TorchDispatchMode):
    """Bytes of the tensors that operators return and that are not among those given."""

    def __init__(self, known: list[torch.Tensor]) -> None:
        super().__init__()
        self.known, self.bytes = {t.data_ptr() for t in known}, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **kwargs or {})
        for tensor in out if isinstance(out, list) else []:
            if tensor.data_ptr() not in self.known:
                self.bytes += tensor.numel() * tensor.element_size()
        return out


def test_foreach_adam_allocates_the_roots_of_all_tensors():
    """What `temporaries` says of torch: on a GPU `foreach` is the default, here it is chosen."""
    parameters = [torch.nn.Parameter(torch.randn(size)) for size in (30, 50)]
    optimizer = torch.optim.AdamW(parameters, weight_decay=0.01, foreach=True)
    for _ in range(2):
        for parameter in parameters:
            parameter.grad = torch.randn_like(parameter)
        state = [t for values in optimizer.state.values() for t in values.values()]
        known = [*parameters, *(p.grad for p in parameters if p.grad is not None), *state]
        with Allocations(known) as allocations:
            optimizer.step()
    assert allocations.bytes == 4 * (30 + 50)


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


def peak(run: Callable[[], None]) -> int:
    """The most bytes that a function has allocated at a time."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        run()
    profiler: Any = recorded.profiler
    events = [e for e in profiler.kineto_results.events() if e.name() == "[memory]"]
    sizes = [e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())]
    return max(accumulate(sizes))


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_logits_take_what_is_estimated(precision: str) -> None:
    """A vocabulary so large that nothing else counts."""
    words = tiny.tokenizer()
    words.eos_token, words.padding_side = "[SEP]", "left"
    model = tiny.language_model("llama", 30_000)
    data = tokenize(tiny.toy_generation(), words, kind=Generation())
    inputs, counts = data.kind.collate(data, data.train, list(range(16)), torch.device("cpu"))
    model.requires_grad_(False)
    model.get_input_embeddings().requires_grad_()

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = data.kind.loss(model, inputs, counts)
        loss.backward()

    positions = data.kind.logit_positions(data.train)
    options: dict[str, Any] = {"optimizer": "adam", "batch_size": 16, "max_length": 16}
    need = estimate_memory(model, d=5, logit_positions=positions, precision=precision, **options)
    assert need.logits == 12 * 16 * positions * 30_000
    table = 4 * 30_000 * 16 + 2 * 30_000 * 16 * (precision == "bf16")
    measured = peak(step) - table
    assert 0.6 * need.logits < measured <= need.logits
    less = estimate_memory(model, d=5, precision=precision, **options)
    assert need.total - less.total == need.logits
