"""The native CPU kernels: `native/` compiled to a plain shared library, called through ctypes.

The library has no state but a constant table, creates its threads per call, and runs without the
interpreter lock. Without the library, the torch reference runs, with one warning.
"""

from __future__ import annotations

import ctypes
import os
import warnings
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor

import d90.projections.kernels
from d90.errors import D90Error, single_line
from d90.projections.kernels.base import RowBlock, requested_kernel
from d90.rng.normal_table import FALLS, INTERCEPTS, TAIL_FALLS, TAIL_INTERCEPTS
from d90.rng.philox import lane_permutations

_LIBRARY = "libd90.so"
_TYPES = {torch.float32: 0, torch.bfloat16: 1}
_PROJECTION_IDS = {"dense": 0, "sparse": 1, "fastfood": 2, "onehot": 3}

_TABLES = 128
"""Arrays of segments in the cache: a model has one for each direction and group."""

_Line: TypeAlias = "tuple[int, int, int | None, int | None, float, int]"
"""The fields of a segment."""

_CHECK = ctypes.CFUNCTYPE(ctypes.c_int)


class _Segment(ctypes.Structure):
    _fields_ = (
        ("start", ctypes.c_int64),
        ("stop", ctypes.c_int64),
        ("source", ctypes.c_void_p),
        ("target", ctypes.c_void_p),
        ("scale", ctypes.c_float),
        ("type", ctypes.c_int32),
    )


def supports(name: str, d: int) -> bool:
    """Whether there is a kernel for this projection of this dimension."""
    return name in _PROJECTION_IDS


@cache
def library() -> ctypes.CDLL | None:
    """The loaded library, or None with one warning if it was not built or cannot be loaded."""
    try:
        loaded = _load()
    except OSError as problem:
        if requested_kernel() == "native":
            raise D90Error(
                f"D90_KERNEL=native, but {single_line(problem)}: reinstall d90 with a C++ compiler."
            ) from problem
        warnings.warn(
            f"the native kernel is not available ({problem}): the slower torch reference runs. "
            "Reinstall d90 with a C++ compiler available to build it.",
            RuntimeWarning,
            stacklevel=3,
        )
        return None
    lines = (*INTERCEPTS, *FALLS, *TAIL_INTERCEPTS, *TAIL_FALLS)
    permutations = bytes(lane for permutation in lane_permutations() for lane in permutation)
    loaded.d90_set_tables((ctypes.c_uint16 * len(lines))(*lines), permutations)
    return loaded


def _load() -> ctypes.CDLL:
    loaded = ctypes.CDLL(str(_path()))
    sizes = (ctypes.c_int, ctypes.c_uint64, ctypes.c_int64, ctypes.c_int64)
    rest = (ctypes.c_void_p, ctypes.POINTER(_Segment), ctypes.c_int64, ctypes.c_int, _CHECK)
    for function in (loaded.d90_apply, loaded.d90_adjoint):
        function.argtypes = (*sizes, *rest)
        function.restype = ctypes.c_int
    loaded.d90_isa.restype = ctypes.c_char_p
    return loaded


def _path() -> Path:
    """The installed library, or the one that D90_LIBRARY names (such as a debug build)."""
    if named := os.environ.get("D90_LIBRARY"):
        return Path(named).absolute()
    paths = [Path(folder) / _LIBRARY for folder in d90.projections.kernels.__path__]
    present = [path for path in paths if path.exists()]
    if not present:
        raise OSError(f"{_LIBRARY} was not built")
    return present[0]


def apply(name: str, d: int, D: int, seed: int, z: Tensor, rows: Sequence[RowBlock]) -> None:
    """`target = source + scale * (P z)[start:...]` for each block of rows, in order.

    Where all of z is zero, a target gets the bits of its source.
    """
    if not z.any():
        for block in rows:
            if block.source is not None and block.target is not None:
                block.target.copy_(block.source)
        rows = [block for block in rows if block.source is None]
    _call("d90_apply", name, d, D, seed, z, rows)


def adjoint(name: str, d: int, D: int, seed: int, out: Tensor, rows: Sequence[RowBlock]) -> None:
    """`out = sum of scale * P[start:...]^T source` over the blocks of rows, in order."""
    _call("d90_adjoint", name, d, D, seed, out, rows)


def _call(
    function: str, name: str, d: int, D: int, seed: int, vector: Tensor, rows: Sequence[RowBlock]
) -> None:
    loaded = library()
    assert loaded is not None
    segments = _segments(tuple(map(_line, rows)))
    raised: list[BaseException] = []
    check = _interruptions(raised)
    next(check)
    status = getattr(loaded, function)(
        _PROJECTION_IDS[name],
        seed,
        d,
        D,
        vector.data_ptr(),
        segments,
        len(rows),
        torch.get_num_threads(),
        _CHECK(check.__next__),
    )
    if raised:
        raise raised[0]
    if status == 1:
        raise MemoryError(f"out of memory for the projection's {d} coordinates")
    if status == 2:
        raise ValueError(f"{function}: rows out of order or out of range for d = {d}, D = {D}")
    if status:
        raise RuntimeError(f"{function}: a C++ exception (status {status})")


def _interruptions(raised: list[BaseException]) -> Iterator[int]:
    """Polled during a long call: the number of exceptions so far, such as Ctrl-C.

    Python runs signal handlers when a generator resumes, which is inside the `try`. They would also
    run when a function begins, as in a plain callback, where nothing could catch what they raise.
    """
    while True:
        try:
            yield len(raised)
        except GeneratorExit:
            return
        except BaseException as problem:
            raised.append(problem)


def _line(block: RowBlock) -> _Line:
    start, source, target, scale = block
    tensor = target if source is None else source
    assert tensor is not None
    read = None if source is None else source.data_ptr()
    write = None if target is None else target.data_ptr()
    return start, start + tensor.numel(), read, write, scale, _TYPES[tensor.dtype]


@lru_cache(_TABLES)
def _segments(lines: tuple[_Line, ...]) -> ctypes.Array[_Segment]:
    """The key is all that the array holds, so memory may be freed and its addresses used again."""
    return (_Segment * len(lines))(*(_Segment(*line) for line in lines))
