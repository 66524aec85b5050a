"""Memory that apply and adjoint need beyond their input and output.

Each is measured in a fresh process. The weights and the buffer that apply writes are allocated and
touched; the operation runs once at a tiny size, which loads the library; the kernel's peak of
resident memory is reset; the operation runs. The value is that peak minus what was resident just
before, minus the d floats that the adjoint returns.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from benchmarks import fresh
from benchmarks.cases import Case, need_memory
from benchmarks.entries import Entry
from benchmarks.kernels import OPERATIONS, operations, weights
from benchmarks.resident import MB, peak_of, settle


@dataclass(frozen=True)
class Sizes:
    """How large the benchmark is: numbers of weights, and values of d for each projection."""

    Ds: tuple[int, ...]
    dims: dict[str, tuple[int, ...]]
    operations: tuple[str, ...] = OPERATIONS


FULL = Sizes(
    Ds=(10_000_000, 125_000_000),
    dims={
        "fastfood": (200, 10_000, 1_000_000),
        "onehot": (200, 10_000, 1_000_000),
        "sparse": (200, 10_000),
    },
)
QUICK = Sizes(Ds=(1_000_000,), dims={"fastfood": (200,)}, operations=("apply",))


def cases(*, quick: bool) -> list[Case]:
    """A case for each projection, operation and size."""
    sizes = QUICK if quick else FULL
    return [
        Case(f"memory {name} {op} d={d} D={D}", partial(_measure, name, op, d, D))
        for name, dims in sizes.dims.items()
        for d in dims
        for D in sizes.Ds
        for op in sizes.operations
    ]


def allowed(d: int) -> float:
    """The target in MB: 16 MB and 64 bytes for each of the d parameters, independent of D."""
    return 16 + 64 * d / MB


def _measure(name: str, op: str, d: int, D: int) -> list[Entry]:
    need_memory(2 * 4 * D)
    extra = fresh.call(extra_bytes, name=name, op=op, d=d, D=D)
    return [
        Entry(
            f"{name} {op}, extra memory, d = {d:,}, D = {D:,}",
            max(extra, 0) / MB,
            "MB",
            at_most=allowed(d),
            about={"kind": "memory", "projection": name, "operation": op, "d": d, "D": D},
        )
    ]


def extra_bytes(name: str, op: str, d: int, D: int) -> int:
    """Peak resident memory of this process beyond input and output, in bytes."""
    theta_0 = weights(D)
    out = weights(D) if op == "apply" else theta_0
    tiny = weights(64)
    operations(name, 8, tiny, tiny.clone())[op]()
    work = operations(name, d, theta_0, out)[op]
    output = 4 * d if op == "adjoint" else 0
    before = settle()
    return peak_of(work) - before - output
