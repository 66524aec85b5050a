"""Parts 3 and 4: theta_0 + s (P z) has the bits of the reference, and nothing else is written.

Part 4 also has the adjoint of rows that are so far back.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from benchmarks.gpu.compare import SEED, different, error, normal, reference
from benchmarks.gpu.part import Result, Setup, Value, check
from benchmarks.gpu.tensors import DTYPES, KERNELS, Memory, shapes
from d90.projections import Projection, make_projection

FAR = 2**34
"""D where rows lie far back."""

_ROWS = 5_000
_SPARE = 2 * 2**30


def check_tensors(setup: Setup) -> Iterator[Result]:
    """Several tensors at once, aligned and not, of each dtype and d."""
    for name in KERNELS:
        for dtype in DTYPES:
            title = f"{name}, {str(dtype).removeprefix('torch.')}"
            yield check(title, "bitwise; poison untouched", partial(_tensors, setup, name, dtype))


def _tensors(setup: Setup, name: str, dtype: torch.dtype) -> tuple[bool, Value]:
    """Numbers with other bits for each d, and numbers outside of the tensors that were written."""
    found: dict[str, int] = {}
    touched = 0
    given = shapes(setup)
    rows = (given.starts, given.scales)
    for d in given.dims:
        P, z = make_projection(name, d=d, D=given.D, seed=SEED), normal(d)
        theta_0 = given.values(dtype)
        with reference():
            expected = P.add_projected(z, theta_0, *rows)
        wrong = 0
        for shift in (0, 1):
            source = Memory.around(given.lengths, dtype, setup.device, shift)
            target = Memory.around(given.lengths, dtype, setup.device, shift)
            for tensor, values in zip(source.tensors, theta_0, strict=True):
                tensor.copy_(values)
            P.add_projected(z.to(setup.device), source.tensors, *rows, target.tensors)
            wrong += sum(map(_other, target.tensors, expected))
            wrong += sum(map(different, source.tensors, theta_0))
            touched += source.touched() + target.touched()
        found[f"d = {d}"] = wrong
    return not touched and not any(found.values()), {**found, "outside": touched}


def _other(found: Tensor, expected: Tensor) -> int:
    """`different`, but in the interpreter, which cuts bfloat16 off instead of rounding it."""
    if found.dtype != torch.bfloat16 or found.is_cuda:
        return different(found, expected)
    return int((~torch.isclose(found.float(), expected.float(), rtol=2**-7, atol=2e-4)).sum())


def check_far_rows(setup: Setup) -> Iterator[Result]:
    """Rows behind 2^31 and 2^33: alone, and at the end of tensors that are that long."""
    for name in KERNELS:
        yield check(f"{name}, slices", "bitwise", partial(_slices, setup, name))
        yield check(f"{name}, adjoint of slices", "<= 5e-7", partial(_pulled, setup, name))
    for name in KERNELS:
        yield check(f"{name}, float32", "bitwise", partial(_long_float32, setup, name))
        yield check(f"{name}, bfloat16", "bitwise", partial(_long_bfloat16, setup, name))
        yield check(f"{name}, adjoint", "<= 5e-7", partial(_long_adjoint, setup, name))


def _slices(setup: Setup, name: str) -> tuple[bool, Value]:
    P = make_projection(name, d=setup.size(1_000, 300), D=FAR, seed=SEED)
    z = normal(P.d)
    found: dict[str, int] = {}
    for power in (31, 32, 33):
        start, stop = 2**power - 777, 2**power + _ROWS
        with reference():
            expected = P.apply(z, start, stop)
        found[f"2^{power}"] = different(P.apply(z.to(setup.device), start, stop), expected)
    return not any(found.values()), found


def _pulled(setup: Setup, name: str) -> tuple[bool, Value]:
    """Errors against float64."""
    P = make_projection(name, d=setup.size(1_000, 300), D=FAR, seed=SEED)
    g = normal(777 + _ROWS)
    found: dict[str, float] = {}
    for power in (31, 33):
        start, stop = 2**power - 777, 2**power + _ROWS
        with reference():
            exact = P.adjoint(g.double(), start, stop)
        found[f"2^{power}"] = error(P.adjoint(g.to(setup.device), start, stop), exact)
    return max(found.values()) <= 5e-7, found


def _long_float32(setup: Setup, name: str) -> tuple[bool | None, Value]:
    """One vector of more than 2^31 numbers, written whole."""
    length = 2**31 + 2**20 + 5
    if not _has_memory(setup, 4 * length):
        return None, f"needs {4 * length / 1e9:.0f} GB on a GPU"
    P = make_projection(name, d=1_000, D=FAR, seed=SEED)
    z = normal(P.d)
    found = P.apply(z.to(setup.device), 0, length)
    wrong = _wrong_at(P, z, found, (0, 2**30, 2**31 - _ROWS // 2, length - _ROWS))
    return wrong == 0, {"numbers": length, "different": wrong}


def _long_bfloat16(setup: Setup, name: str) -> tuple[bool | None, Value]:
    """One tensor of more than 2^33 numbers, added to in place."""
    length = 2**33 + 2**20 + 5
    if not _has_memory(setup, 2 * length):
        return None, f"needs {2 * length / 1e9:.0f} GB on a GPU"
    P = make_projection(name, d=1_000, D=FAR, seed=SEED)
    z = normal(P.d)
    theta = torch.zeros(length, dtype=torch.bfloat16, device=setup.device)
    P.add_projected(z.to(setup.device), [theta], [0], [1.0], out=[theta])
    wrong = _wrong_at(P, z, theta, (0, 2**31, 2**32, 2**33 - _ROWS // 2, length - _ROWS))
    return wrong == 0, {"numbers": length, "different": wrong}


def _long_adjoint(setup: Setup, name: str) -> tuple[bool | None, Value]:
    """One gradient of more than 2^31 numbers, zero but at both ends."""
    length = 2**31 + 2**20 + 5
    if not _has_memory(setup, 4 * length):
        return None, f"needs {4 * length / 1e9:.0f} GB on a GPU"
    P = make_projection(name, d=1_000, D=FAR, seed=SEED)
    ends = normal(_ROWS), normal(_ROWS, 1)
    g = torch.zeros(length, device=setup.device)
    g[:_ROWS], g[-_ROWS:] = (values.to(setup.device) for values in ends)
    with reference():
        exact = P.adjoint(ends[0].double(), 0, _ROWS)
        exact += P.adjoint(ends[1].double(), length - _ROWS, length)
    found = error(P.adjoint(g, 0, length), exact)
    return found <= 5e-7, {"numbers": length, "error": found}


def _wrong_at(P: Projection, z: Tensor, found: Tensor, starts: tuple[int, ...]) -> int:
    """How many of the rows behind each of these have other bits than `0 + P z`."""
    wrong = 0
    for start in starts:
        zeros = torch.zeros(_ROWS, dtype=found.dtype)
        with reference():
            (expected,) = P.add_projected(z, [zeros], [start], [1.0])
        wrong += different(found[start : start + _ROWS], expected)
    return wrong


def _has_memory(setup: Setup, size: int) -> bool:
    return not setup.is_rehearsal and torch.cuda.mem_get_info()[0] > size + _SPARE
