"""Part 9: a run twice and resumed, and what its z means on another machine."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from accelerate.state import AcceleratorState
from torch import Tensor

from benchmarks.gpu import models
from benchmarks.gpu.compare import different, error, kernel
from benchmarks.gpu.part import Result, Setup, Value, check
from d90.subspace import Subspace
from d90.training import Progress, TrainConfig, train

RATE = 0.01
METHOD, PROJECTION = "did", "fastfood"


CASES = (("eager", "no"), ("sdpa", "no"), ("sdpa", "bf16"))
"""Attention and precision."""


class _Stop(Exception):
    """Ends a run in its middle."""


def check_runs(setup: Setup) -> Iterator[Result]:
    """By attention and precision; fused attention may add in an order that depends on timing.

    A rehearsal trains with the reference: a launch in the interpreter takes a tenth of a second.
    """
    with kernel(setup.size("auto", "reference")):
        yield from _check_runs(setup)


def _check_runs(setup: Setup) -> Iterator[Result]:
    for attention, precision in setup.size(CASES, CASES[::2]):
        name = f"{attention}, {'float32' if precision == 'no' else precision}"
        must = attention == "eager"
        measure = partial(_runs, setup, attention, precision, must)
        yield check(name, "same bits" if must else "reported", measure)
    yield check("z decoded on the CPU", "theta bitwise by the reference", partial(_decoded, setup))


def _runs(setup: Setup, attention: str, precision: str, must: bool) -> tuple[bool | None, Value]:
    """A run, the same run again, and one that was stopped half way and went on."""
    with tempfile.TemporaryDirectory() as folder:
        (first, losses), (second, again) = (_run(setup, attention, precision) for _ in range(2))
        try:
            _run(setup, attention, precision, Path(folder), stop_at=2 * _steps(setup) // 3)
        except _Stop:
            resumed, rest = _run(setup, attention, precision, Path(folder))
        else:
            raise RuntimeError("the run did not stop")
    found = {
        "numbers": first.numel(),
        "twice": different(second, first),
        "resumed": different(resumed, first),
        "losses": losses == again and losses[-len(rest) :] == rest,
        "steps resumed": len(rest),
    }
    same = not found["twice"] and not found["resumed"] and bool(found["losses"])
    is_resumed = 0 < len(rest) < len(losses)
    return (same if must else None) if is_resumed else False, found


def _steps(setup: Setup) -> int:
    return setup.size(30, 4)


def _run(
    setup: Setup,
    attention: str,
    precision: str,
    folder: Path | None = None,
    stop_at: int | None = None,
) -> tuple[Tensor, list[float]]:
    """z and the losses of the steps that this call made."""
    subspace, losses = _trained(setup, attention, precision, folder, stop_at)
    return subspace.z.detach().clone(), losses


def _trained(
    setup: Setup, attention: str, precision: str, folder: Path | None, stop_at: int | None
) -> tuple[Subspace, list[float]]:
    losses: list[float] = []

    def watch(progress: Progress) -> None:
        losses.append(progress.loss)
        if progress.step == stop_at:
            raise _Stop

    # It keeps the precision of the first run of a process.
    AcceleratorState._reset_state(reset_partial_state=True)
    model = models.bert(setup, attention=attention, dropout=0.1).to(setup.device)
    subspace = models.subspace_of(setup, model, METHOD, PROJECTION)
    config = TrainConfig(max_steps=_steps(setup), batch_size=setup.size(32, 4), precision=precision)
    train(
        model,
        models.task(setup),
        config,
        learning_rate=RATE,
        d=subspace.d,
        on_progress=watch,
        checkpoint_dir=folder,
        checkpoint_every=setup.size(5, 1),
    )
    return subspace, losses


def _decoded(setup: Setup) -> tuple[bool, Value]:
    """theta from the z of a GPU, by the CPU's reference and by its fast kernels."""
    subspace, _ = _trained(setup, "sdpa", "no", None, None)
    subspace.materialize()
    expected = models.theta(subspace)
    found: dict[str, float] = {"weights": subspace.layout.D}
    for name in ("reference", "native"):
        model = models.bert(setup)
        copy = models.subspace_of(setup, model, METHOD, PROJECTION)
        with torch.no_grad():
            copy.z.copy_(subspace.z)
        with kernel(name):
            copy.materialize()
        theta = models.theta(copy)
        found[f"{name}, different"] = sum(different(theta[n], expected[n]) for n in expected)
        found[f"{name}, error"] = max(error(theta[n], expected[n]) for n in expected)
    is_moved = bool(subspace.z.any())
    return is_moved and found["reference, different"] == 0, found
