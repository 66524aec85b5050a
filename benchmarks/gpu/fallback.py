"""Part 7: blocks that no single program holds, and the projections that are plain torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch

from benchmarks.gpu.compare import SEED, error, normal, reference
from benchmarks.gpu.part import Result, Setup, Value, check
from d90.projections import make_projection

LARGEST = {torch.float32: 2e-7, torch.float64: 1e-12}
"""Error relative to float64 on the CPU, by dtype."""


def check_errors(setup: Setup) -> Iterator[Result]:
    """Rows a..b of apply and adjoint, with TF32 allowed and not."""
    cases = setup.size(
        (
            ("fastfood", 20_000, 300_017, 0, 300_017),
            ("fastfood", 2**20, 2**22 + 17, 0, 2**22 + 17),
            ("onehot", 20_000, 300_017, 0, 300_017),
            ("onehot", 2**20, 2**22 + 17, 0, 2**22 + 17),
            ("dense", 300, 10**6, 500_000, 508_192),
            ("sparse", 20_000, 10**7, 5_000_001, 5_050_000),
        ),
        (
            ("fastfood", 20_000, 33_000, 0, 33_000),
            ("onehot", 2_000, 5_000, 0, 5_000),
            ("dense", 30, 5_000, 501, 2_500),
            ("sparse", 300, 10**5, 501, 2_500),
        ),
    )
    for name, d, D, start, stop in cases:
        for dtype, largest in LARGEST.items():
            title = f"{name}, d = {d:,}, {str(dtype).removeprefix('torch.')}"
            measure = partial(_errors, setup, name, d, D, (start, stop), dtype)
            yield check(title, f"<= {largest:g}", measure)


def _errors(
    setup: Setup, name: str, d: int, D: int, rows: tuple[int, int], dtype: torch.dtype
) -> tuple[bool, Value]:
    P = make_projection(name, d=d, D=D, seed=SEED)
    z, g = normal(d, 0, dtype), normal(rows[1] - rows[0], 1, dtype)
    with reference():
        moved, pulled = P.apply(z.double(), *rows), P.adjoint(g.double(), *rows)
    found: dict[str, float] = {}
    for allowed in (False, True):
        with _tf32(allowed):
            note = ", TF32" if allowed else ""
            found[f"apply{note}"] = error(P.apply(z.to(setup.device), *rows), moved)
            found[f"adjoint{note}"] = error(P.adjoint(g.to(setup.device), *rows), pulled)
    return max(found.values()) <= LARGEST[dtype], found


@contextmanager
def _tf32(allowed: bool) -> Iterator[None]:
    """Whether products of float32 matrices may round their factors to TF32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
