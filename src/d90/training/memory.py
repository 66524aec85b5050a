"""Estimate of the memory of a training run, before it starts.

All sizes are in bytes. Weights, gradients and optimizer state are exact for the usual optimizers;
activations are the estimate of Korthikanti et al., *Reducing Activation Recomputation in Large
Transformer Models* (2022), equation 1. `docs/gpu.md` has an example.
"""

from __future__ import annotations

import errno
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import nn

from d90.errors import D90Error
from d90.subspace.grouping import by_layer

CPU = torch.device("cpu")

STATE_VALUES = {"adam": 2, "adamw": 2, "sgd": 0}
"""Values of optimizer state per trained parameter."""

CUDA_CONTEXT = 500_000_000
"""What CUDA and its libraries take on a GPU for each process, about: not measured here."""

LOGIT_BYTES = 12
"""At a time for each logit: it, a copy and its log-probability, then that and two gradients, each
of 4 bytes."""

OUT_OF_MEMORY = (
    "out of memory",  # CUDA's runtime and driver outside of torch's allocator, Triton's launches
    "can't allocate memory",  # torch's CPU allocator
    "not enough memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate",  # no memory for the handle
    "CUDNN_STATUS_ALLOC_FAILED",
    "ALLOCATION_FAILED",  # cuDNN 9: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED, HOST_
)
"""Messages of the torch errors that have no class of their own."""


@dataclass(frozen=True)
class Memory:
    """Bytes that a training run takes.

    Attributes:
        base: theta_0, which stays loaded for the next run.
        weights: the run's own copy of it, which full fine-tuning trains.
        theta: in a subspace, theta_0 + P z.
        gradients: of every parameter, or in a subspace of the largest layer.
        optimizer: the optimizer's state.
        temporaries: what the optimizer allocates in a step and frees.
        casts: under autocast, the bf16 copies of the matrices, saved for the backward pass.
        activations: the rest of what a forward pass saves for the backward pass.
        logits: of every token of the vocabulary, with the losses and gradients made of them.
    """

    base: int
    weights: int
    theta: int
    gradients: int
    optimizer: int
    temporaries: int
    casts: int
    activations: int
    logits: int = 0

    @property
    def total(self) -> int:
        """The largest sum of what is allocated at a time: the optimizer steps after backward."""
        kept = self.base + self.weights + self.theta + self.gradients + self.optimizer
        return kept + max(self.temporaries, self.casts + self.activations + self.logits)


def estimate_memory(
    model: nn.Module,
    *,
    d: int | None,
    optimizer: str,
    batch_size: int,
    max_length: int,
    logit_positions: int = 0,
    precision: str = "no",
    device: torch.device = CPU,
) -> Memory:
    """Estimate the memory of a run.

    Args:
        model: may be on the meta device (`d90.models.loading.load_meta`).
        d: dimension of the subspace; None is full fine-tuning.
        optimizer: a key of `STATE_VALUES`.
        batch_size, max_length: examples of the largest batch, and their tokens.
        logit_positions: of each example, at which a language model scores every token.
        precision: `no`, or `bf16` for autocast.
        device: where the run is.
    """
    layer_of, layer_bytes = by_layer(model), Counter[str]()
    for name, p in model.named_parameters():
        layer_bytes[layer_of(name)] += p.numel() * p.element_size()
    weights, largest = layer_bytes.total(), max(layer_bytes.values())
    trained = weights if d is None else 4 * d
    tensors = [p.numel() * p.element_size() for p in model.parameters()]
    largest_tensor = max(tensors) if d is None else trained
    return Memory(
        base=weights,
        weights=weights if d is None else 0,
        theta=0 if d is None else weights,
        gradients=weights if d is None else largest + trained,
        optimizer=STATE_VALUES[optimizer] * trained,
        temporaries=_temporaries(optimizer, trained, largest_tensor, device),
        casts=_casts(model) if precision == "bf16" else 0,
        activations=_activations(model, batch_size, max_length, precision),
        logits=LOGIT_BYTES * batch_size * logit_positions * _vocabulary(model),
    )


def _temporaries(optimizer: str, trained: int, largest_tensor: int, device: torch.device) -> int:
    """The square roots of Adam's second moments.

    On a GPU torch updates all tensors at once (`foreach`), and has the roots of all of them. On the
    CPU it updates one tensor after the other, and has its root and a quotient.
    """
    if not STATE_VALUES[optimizer]:
        return 0
    return trained if device.type == "cuda" else 2 * largest_tensor


def _casts(model: nn.Module) -> int:
    """Matrices enter products as bf16 copies; embeddings are looked up as they are."""
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    return sum(
        2 * p.numel()
        for p in model.parameters()
        if p.ndim >= 2 and p.dtype != torch.bfloat16 and id(p) not in tables
    )


def _activations(model: nn.Module, batch: int, length: int, precision: str) -> int:
    """Equation 1: s b h (34 + 5 a s / h) bytes per layer with 2-byte activations.

    Autocast on a GPU keeps the inputs of layer norms and the probabilities of attention in float32
    (4 + 2 a s / h more), and a bf16 copy of its input for each of Q, K and V (4 more).
    """
    config = getattr(model, "config", None)
    hidden = getattr(config, "hidden_size", 0) or 0
    heads = getattr(config, "num_attention_heads", 0) or 0
    layers = getattr(config, "num_hidden_layers", 0) or 0
    if getattr(config, "is_encoder_decoder", False):
        layers += getattr(config, "decoder_layers", None) or layers
    if precision == "bf16":
        return layers * length * batch * (42 * hidden + 7 * heads * length)
    element_size = next(model.parameters()).element_size()
    return layers * length * batch * (34 * hidden + 5 * heads * length) * element_size // 2


def _vocabulary(model: nn.Module) -> int:
    config: Any = getattr(model, "config", None)
    return getattr(config, "vocab_size", 0) or 0


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means out of memory, on the host or on the device."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    # Only torch's allocator of device memory has its own class. The others raise a RuntimeError, or
    # its subclass torch.AcceleratorError.
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        isinstance(error, RuntimeError) and any(message in str(error) for message in OUT_OF_MEMORY)
    )


def available_memory(device: torch.device) -> int:
    """Bytes that this process can still allocate on a device, within its cgroup's limit."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = psutil.virtual_memory().available
    limit, used = (_read(f"/sys/fs/cgroup/memory.{name}") for name in ("max", "current"))
    return free if limit is None or used is None else min(free, limit - used)


def _read(file: str) -> int | None:
    try:
        return int(Path(file).read_text())
    except (OSError, ValueError):  # No cgroups, or the limit is "max".
        return None


def check_memory(name: str, need: Memory, device: torch.device) -> None:
    """Fail before full fine-tuning if it cannot fit.

    Raises:
        D90Error: more memory is needed than is available.
    """
    # theta_0 stays on the host if a GPU has no room for it.
    total = need.total - (need.base if device.type == "cuda" else 0)
    available = available_memory(device)
    if total > available:
        raise D90Error(
            f"model '{name}' needs about {total / 1e9:.1f} GB to train and "
            f"{available / 1e9:.1f} GB of memory is free on {device}: lower the batch size or "
            "the maximum length, use dtype bfloat16, or take a smaller model."
        )
