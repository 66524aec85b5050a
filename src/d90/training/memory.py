"""How much memory a training run takes, said before it starts.

Everything is in bytes. Weights, gradients and optimizer state are exact for the usual optimizers;
activations are the estimate of Korthikanti et al., *Reducing Activation Recomputation in Large
Transformer Models* (2022), equation 1.
"""

from __future__ import annotations

import errno
from collections import Counter
from dataclasses import astuple, dataclass
from pathlib import Path

import psutil
import torch
from torch import nn

from d90.errors import D90Error
from d90.subspace.grouping import by_layer

STATE_NUMBERS = {"adam": 2, "adamw": 2, "sgd": 0}
"""Numbers that an optimizer keeps for each trained number."""

NO_MEMORY = ("can't allocate memory", "not enough memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""What torch says in errors that have no class of their own."""


@dataclass(frozen=True)
class Memory:
    """Bytes that a training run takes.

    Attributes:
        base: the pretrained weights that are kept for the next run.
        weights: the run's own copy of them: theta, or theta_0 in a subspace.
        theta: in a subspace, theta_0 + P z.
        gradients: of every weight, or in a subspace of the largest layer.
        optimizer: the optimizer's state.
        activations: what a forward pass keeps for the backward pass.
    """

    base: int
    weights: int
    theta: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        """All of it."""
        return sum(astuple(self))


def estimate_memory(
    model: nn.Module, *, d: int | None, optimizer: str, batch_size: int, max_length: int
) -> Memory:
    """The memory of a run in batches of `batch_size` texts of `max_length` tokens.

    Args:
        model: it may be a skeleton without weights (`d90.models.loading.load_meta`).
        d: dimension of the subspace; None is full fine-tuning.
        optimizer: a key of `STATE_NUMBERS`.
        batch_size, max_length: shape of the largest batch.
    """
    layer_of, layers = by_layer(model), Counter[str]()
    for name, p in model.named_parameters():
        layers[layer_of(name)] += p.numel() * p.element_size()
    everything, largest = layers.total(), max(layers.values())
    number = 4 if d is not None else everything / sum(p.numel() for p in model.parameters())
    trained = everything if d is None else round(d * number)
    return Memory(
        base=everything,
        weights=everything,
        theta=0 if d is None else everything,
        gradients=everything if d is None else largest + trained,
        optimizer=STATE_NUMBERS[optimizer] * trained,
        activations=_activations(model, batch_size, max_length),
    )


def _activations(model: nn.Module, batch: int, length: int) -> int:
    """Equation 1: s b h (34 + 5 a s / h) bytes a layer with 2-byte numbers."""
    config = getattr(model, "config", None)
    hidden = getattr(config, "hidden_size", 0) or 0
    heads = getattr(config, "num_attention_heads", 0) or 0
    layers = getattr(config, "num_hidden_layers", 0) or 0
    if getattr(config, "is_encoder_decoder", False):
        layers += getattr(config, "decoder_layers", None) or layers
    bytes_a_number = next(model.parameters()).element_size()
    per_layer = length * batch * (34 * hidden + 5 * heads * length)
    return layers * per_layer * bytes_a_number // 2


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error is for want of memory, of the machine or of its device."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    # torch's allocator of the CPU and cuBLAS have no class of their own.
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in NO_MEMORY)
    )


def available_memory(device: torch.device) -> int:
    """Bytes that this process can still take on a device, within its control group's limit."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = psutil.virtual_memory().available
    limit, used = (_read(f"/sys/fs/cgroup/memory.{name}") for name in ("max", "current"))
    return free if limit is None or used is None else min(free, limit - used)


def _read(file: str) -> int | None:
    try:
        return int(Path(file).read_text())
    except (OSError, ValueError):  # No control groups here, or the limit is "max".
        return None


def check_memory(name: str, need: Memory, device: torch.device) -> None:
    """Stop before training where it cannot fit.

    Raises:
        D90Error: more is needed than there is.
    """
    available = available_memory(device)
    if need.total > available:
        raise D90Error(
            f"model '{name}' needs about {need.total / 1e9:.1f} GB to train and "
            f"{available / 1e9:.1f} GB of memory is free on {device}: lower the batch size or "
            "the maximum length, use dtype bfloat16, or take a smaller model."
        )
