"""Parts 5 and 6: P^T g against exact sums, and what has to hold for any g."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from benchmarks.gpu.compare import SEED, different, error, normal, reference
from benchmarks.gpu.part import Result, Setup, Value, check
from benchmarks.gpu.tensors import DTYPES, KERNELS, Memory, shapes
from d90.projections import Projection, make_projection

_UNIT_BITS = 36
"""Bits of the largest gradient in the whole numbers that the one-hot kernel adds."""

_SMALLEST = -90
EPS = torch.finfo(torch.float32).eps
_REPEATS = 20


def check_sums(setup: Setup) -> Iterator[Result]:
    """Gradients of several tensors, of each dtype and d."""
    for dtype in DTYPES:
        title = str(dtype).removeprefix("torch.")
        yield check(f"onehot, {title}", "bitwise", partial(_whole_sums, setup, dtype))
        aim = "error <= 2 x float32 reference's"
        yield check(f"fastfood, {title}", aim, partial(_errors, setup, dtype))
    yield check("onehot, many weights", "bitwise", partial(_many_weights, setup))


def _gradients(setup: Setup, dtype: torch.dtype) -> tuple[list[Tensor], list[Memory]]:
    """Gradients on the CPU, and the same on the device, aligned and not."""
    given = shapes(setup)
    values = given.values(dtype)
    copies = [Memory.around(given.lengths, dtype, setup.device, shift) for shift in (0, 1)]
    for copy in copies:
        for tensor, g in zip(copy.tensors, values, strict=True):
            tensor.copy_(g)
    return values, copies


def _whole_sums(setup: Setup, dtype: torch.dtype) -> tuple[bool, Value]:
    given = shapes(setup)
    values, copies = _gradients(setup, dtype)
    found: dict[str, int] = {}
    for d in given.dims:
        P = make_projection("onehot", d=d, D=given.D, seed=SEED)
        expected = whole_sum(P, values, given.starts, given.scales)
        results = (P.pull_back(copy.tensors, given.starts, given.scales) for copy in copies)
        found[f"d = {d}"] = sum(different(result, expected) for result in results)
    return not any(found.values()), found


def whole_sum(
    P: Projection, gradients: Sequence[Tensor], starts: Sequence[int], scales: Sequence[float]
) -> Tensor:
    """The one-hot P^T g in whole numbers of a unit that the largest gradient gives, shape (d,)."""
    scaled = [g.float() * scale for g, scale in zip(gradients, scales, strict=True)]
    largest = max(float(g.abs().max()) for g in scaled)
    exponent = max(math.frexp(largest)[1], _SMALLEST)
    bits = min(_UNIT_BITS, 62 - sum(len(g) for g in scaled).bit_length())
    total = torch.zeros(P.d, dtype=torch.int64)
    for g, start in zip(scaled, starts, strict=True):
        column, sign = _columns(P, start, start + len(g))
        whole = (sign * g * 2.0 ** (bits - exponent) + 0.5).floor().long()
        total.index_add_(0, column, whole)
    unit = 2.0 ** (exponent - bits)
    return (total * torch.tensor(unit).double() * math.sqrt(P.d / P.D)).float()


def _columns(P: Projection, start: int, stop: int) -> tuple[Tensor, Tensor]:
    """The column and the sign of each row, read off P z for z = 1, 2, 3 ..."""
    with reference():
        marks = P.apply(torch.arange(1.0, P.d + 1, dtype=torch.float64), start, stop)
    marks = (marks / math.sqrt(P.d / P.D)).round()
    return marks.abs().long() - 1, marks.sign().float()


def _errors(setup: Setup, dtype: torch.dtype) -> tuple[bool, Value]:
    """The worse of the two errors, in errors of the reference on the CPU in float32.

    Where d is small the reference may happen to be exact: a few roundings are added to its error,
    of the size of one entry of the result.
    """
    given = shapes(setup)
    rows = (given.starts, given.scales)
    values, copies = _gradients(setup, dtype)
    scaled = [g.double() * scale for g, scale in zip(values, given.scales, strict=True)]
    rounding = 2 * EPS * float(torch.cat(scaled).norm()) / math.sqrt(given.D)
    found: dict[str, float] = {}
    for d in given.dims:
        P = make_projection("fastfood", d=d, D=given.D, seed=SEED)
        with reference():
            exact = P.pull_back([g.double() for g in values], *rows)
            usual = error(P.pull_back(values, *rows), exact)
        usual += rounding / float(exact.norm())
        worst = max(error(P.pull_back(copy.tensors, *rows), exact) for copy in copies)
        found[f"d = {d}"] = worst / usual
    return max(found.values()) <= 2, found


def _many_weights(setup: Setup) -> tuple[bool, Value]:
    count = setup.size(2**24 + 77, 5_000)
    P = make_projection("onehot", d=1_000, D=2 * count, seed=SEED)
    g = normal(count)
    found = P.pull_back([g.to(setup.device)], [count], [1.0])
    wrong = different(found, whole_sum(P, [g], [count], [1.0]))
    return wrong == 0, {"weights": count, "different": wrong}


def check_identities(setup: Setup) -> Iterator[Result]:
    """P and P^T are adjoint; the same bits every time; no NaN, infinity or scale is lost."""
    for name in KERNELS:
        P = make_projection(name, d=setup.size(1_000, 300), D=setup.size(2**20 + 5, 2_100), seed=3)
        z, g = normal(P.d).to(setup.device), normal(P.D, 1).to(setup.device)
        aim = "<= 1e-5 of |Pz| |g|"
        yield check(f"{name}, <Pz, g> = <z, P'g>", aim, partial(_identity, P, z, g))
        yield check(f"{name}, repeats", "same bits", partial(_repeats, setup, P, z, g))
        yield check(f"{name}, not finite", "seen", partial(_not_finite, P, z, g))
        yield check(f"{name}, extremes", "<= 1e-6", partial(_extremes, P, g))


def _identity(P: Projection, z: Tensor, g: Tensor) -> tuple[bool, Value]:
    moved, pulled = P.apply(z, 0, P.D).double(), P.adjoint(g, 0, P.D).double()
    difference = float(abs(moved @ g.double() - z.double() @ pulled) / (moved.norm() * g.norm()))
    return difference <= 1e-5, difference


def _repeats(setup: Setup, P: Projection, z: Tensor, g: Tensor) -> tuple[bool | None, Value]:
    """Beside a stream that keeps the device busy, so that blocks run in another order."""
    first = P.apply(z, 0, P.D), P.adjoint(g, 0, P.D)
    repeats = setup.size(_REPEATS, 2)
    wrong = 0
    stream = None if setup.is_rehearsal else torch.cuda.Stream()
    busy = torch.ones(setup.size(4096, 1), setup.size(4096, 1), device=setup.device)
    setup.synchronize()
    for _ in range(repeats):
        with torch.cuda.stream(stream):  # Does nothing for None.
            for _ in range(3):
                torch.mm(busy, busy)
        again = P.apply(z, 0, P.D), P.adjoint(g, 0, P.D)
        wrong += sum(map(different, again, first))
    same = wrong == 0
    # Without streams it is no check, unless it fails.
    return None if setup.is_rehearsal and same else same, {"repeats": repeats, "different": wrong}


def _not_finite(P: Projection, z: Tensor, g: Tensor) -> tuple[bool, Value]:
    """How many numbers of P^T g and of P z are not finite for one in g or z that is not."""
    found: dict[str, int] = {}
    for value in (math.inf, -math.inf, math.nan):
        bad_g, bad_z = g.clone(), z.clone()
        bad_g[1234], bad_z[7] = value, value
        found[f"P'g, {value}"] = int((~P.adjoint(bad_g, 0, P.D).isfinite()).sum())
        found[f"Pz, {value}"] = int((~P.apply(bad_z, 0, P.D).isfinite()).sum())
    return all(found.values()), found


def _extremes(P: Projection, g: Tensor) -> tuple[bool, Value]:
    """Errors against float64 for gradients of any size; zero for zeros."""
    found: dict[str, float] = {}
    for size in (1e-30, 1e-20, 1e20, 1e30):
        scaled = g * size
        with reference():
            exact = P.adjoint(scaled.cpu().double(), 0, P.D)
        found[f"{size:g}"] = error(P.adjoint(scaled, 0, P.D), exact)
    one = torch.zeros_like(g)
    one[P.D // 3] = 1e30
    with reference():
        exact = P.adjoint(one.cpu().double(), 0, P.D)
    found["one of 1e30"] = error(P.adjoint(one, 0, P.D), exact)
    found["zeros"] = float(P.adjoint(torch.zeros_like(g), 0, P.D).abs().max())
    return max(found.values()) <= 1e-6 and found["zeros"] == 0, found
