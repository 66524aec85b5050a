"""Part 8: a model with a subspace, its weights and its gradients."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.gpu import models
from benchmarks.gpu.compare import different, error, reference
from benchmarks.gpu.part import Result, Setup, Value, check
from d90.subspace import Subspace, detach

CASES = (("did", "fastfood"), ("said", "fastfood"), ("did", "onehot"), ("said", "onehot"))
_STEPS = 3
_SLACK = 32_000_000
"""Bytes beyond theta_0, theta and the gradient of the largest group, as in `make bench`."""


def check_model(setup: Setup) -> Iterator[Result]:
    """Theta on the device and on the CPU, at z = 0 and after detach; gradients; memory."""
    for method, projection in setup.size(CASES, CASES[1:2]):
        what = setup, method, projection
        name = f"{method} {projection}"
        yield check(f"{name}, theta", "bitwise the CPU's", partial(_theta, *what))
        yield check(f"{name}, z = 0 and detach", "theta_0, bitwise", partial(_theta_0, *what))
        yield check(f"{name}, gradient", "<= 1e-5 of float64's", partial(_gradient, *what))
        yield check(f"{name}, checkpointing", "<= 1e-5", partial(_checkpointing, *what))
    for method, projection in setup.size(CASES, CASES[2:3]):
        aim = "<= 2 D floats, one group and 32 MB"
        measure = partial(_peak, setup, method, projection)
        yield check(f"{method} {projection}, peak memory", aim, measure)


def _theta(setup: Setup, method: str, projection: str) -> tuple[bool, Value]:
    here, there = models.bert(setup).to(setup.device), models.bert(setup)
    subspaces = [models.subspace_of(setup, model, method, projection) for model in (here, there)]
    for subspace in subspaces:
        models.move(subspace)
    subspaces[0].materialize()
    with reference():
        subspaces[1].materialize()
    found, expected = map(models.theta, subspaces)
    start = models.bert(setup).state_dict()
    moved = sum(different(expected[name], start[name]) for name in expected)
    wrong = sum(different(found[name], expected[name]) for name in expected)
    # Weights that stay at theta_0 would agree as well.
    return wrong == 0 and moved > 0, {"weights": subspaces[0].layout.D, "different": wrong}


def _theta_0(setup: Setup, method: str, projection: str) -> tuple[bool, Value]:
    """Numbers that are not those of theta_0, -0.0 among them, where they should be."""
    model = models.bert(setup)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.view(-1)[0] = -0.0
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.to(setup.device)
    subspace = models.subspace_of(setup, model, method, projection)
    found: dict[str, int] = {}
    for note in ("at first", "again"):
        subspace.materialize()
        now = models.theta(subspace)
        found[note] = sum(different(now[name], start[name]) for name in now)
        models.move(subspace)
        subspace.materialize()
        with torch.no_grad():
            subspace.z.zero_()
    detach(model)
    after = model.state_dict()
    found["detached"] = sum(different(after[name], start[name]) for name in start)
    return not any(found.values()) and set(after) == set(start), found


def _gradients(model: nn.Module, subspace: Subspace, setup: Setup) -> list[Tensor]:
    model.zero_grad()
    model(**models.batch(setup, setup.device)).loss.backward()
    gradients = [p.grad for p in (subspace.z, subspace.lam) if p is not None]
    return [gradient.clone() for gradient in gradients if gradient is not None]


def _gradient(setup: Setup, method: str, projection: str) -> tuple[bool, Value]:
    found: list[list[Tensor]] = []
    for dtype in (torch.float32, torch.float64):
        model = models.bert(setup).to(setup.device, dtype)
        subspace = models.subspace_of(setup, model, method, projection)
        models.move(subspace)
        found.append(_gradients(model, subspace, setup))
    names = ("z", "lam")[: len(found[0])]
    errors = {name: error(*pair) for name, *pair in zip(names, *found, strict=True)}
    return max(errors.values()) <= 1e-5, errors


def _checkpointing(setup: Setup, method: str, projection: str) -> tuple[bool, Value]:
    model = models.bert(setup).to(setup.device).train()
    subspace = models.subspace_of(setup, model, method, projection)
    models.move(subspace)
    usual = _gradients(model, subspace, setup)
    names = ("activation_checkpointing_enable", "gradient_checkpointing_enable")  # new and old
    enable = next(getattr(model, name) for name in names if hasattr(model, name))
    enable({"use_reentrant": False})
    found = max(map(error, _gradients(model, subspace, setup), usual))
    return found <= 1e-5, found


def _peak(setup: Setup, method: str, projection: str) -> tuple[bool | None, Value]:
    """Of steps with one short example, whose activations are small, by torch's allocator."""
    _steps(setup, method, projection)  # Libraries allocate their workspaces.
    if setup.is_rehearsal:
        return None, "needs a GPU"
    gc.collect()
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    D, largest = _steps(setup, method, projection)
    used = torch.cuda.max_memory_allocated() - before
    allowed = 4 * (2 * D + largest) + _SLACK
    return used <= allowed, {"MB": used / 1e6, "allowed": allowed / 1e6, "D floats": 4 * D / 1e6}


def _steps(setup: Setup, method: str, projection: str) -> tuple[int, int]:
    """Train for a few steps; D and the size of the largest group."""
    model = models.bert(setup).to(setup.device).train()
    subspace = models.subspace_of(setup, model, method, projection)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    example = {name: x[:1] for name, x in models.batch(setup, setup.device).items()}
    for _ in range(_STEPS):
        model(**example).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    layout = subspace.layout
    detach(model)  # A model with a subspace refers to itself, and would stay until collected.
    return layout.D, max(group.size for group in layout.groups)
