"""How d numbers become bytes: as they are, rounded, or quantized and entropy-coded.

Every code is a name in `CODES`, with the same two functions: from numbers to bytes, and back.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from d90.adapters import entropy_model
from d90.errors import D90Error, unknown_name

FloatArray = NDArray[np.float32]


class Codec(ABC):
    """A way to write d numbers.

    `encode` may lose something; `decode(encode(x))` is what the file means, and writing that again
    loses nothing more.

    Attributes:
        departs: whether lam is given as lam - 1, which is as small as z and keeps its digits.
    """

    departs: ClassVar[bool] = True

    @abstractmethod
    def encode(self, numbers: FloatArray) -> bytes:
        """The numbers as bytes."""

    @classmethod
    @abstractmethod
    def decode(cls, data: bytes, count: int) -> FloatArray:
        """`count` numbers from exactly these bytes.

        Raises:
            D90Error: when they are not what `encode` writes for so many numbers.
        """


@dataclass(frozen=True)
class Float32Codec(Codec):
    """As they were trained: 4 bytes a number."""

    departs: ClassVar[bool] = False

    def encode(self, numbers: FloatArray) -> bytes:
        return numbers.astype("<f4").tobytes()

    @classmethod
    def decode(cls, data: bytes, count: int) -> FloatArray:
        return _plain(data, count, "<f4")


@dataclass(frozen=True)
class Float16Codec(Codec):
    """Rounded to 11 binary digits: 2 bytes a number."""

    def encode(self, numbers: FloatArray) -> bytes:
        with np.errstate(over="ignore"):
            rounded = numbers.astype("<f2")
        if not np.isfinite(rounded).all():
            raise D90Error("a number is too large for float16: write the file in float32.")
        return rounded.tobytes()

    @classmethod
    def decode(cls, data: bytes, count: int) -> FloatArray:
        return _plain(data, count, "<f2")


@dataclass(frozen=True)
class UniformCodec(Codec):
    """Multiples of one step, coded under a bell curve (`d90.adapters.entropy_model`).

        x is written as k = round(x / step), |k| <= K

    Bytes: step (float32), spread of the bell (2 bytes), K (1 byte), the coded k.

    Attributes:
        step: above 0; in the unit of the numbers.
    """

    step: float

    _HEAD = struct.Struct("<fHB")

    def encode(self, numbers: FloatArray) -> bytes:
        step = np.float32(self.step)
        symbols = np.rint(numbers / step).astype(np.int64)
        largest = int(max(np.abs(symbols).max(initial=0), 1))
        if largest > entropy_model.LARGEST:
            raise D90Error(f"step {self.step:g} is too fine: {largest} of them to a number.")
        spread = entropy_model.best_spread(symbols.astype(np.int32), largest)
        shifted = (symbols + largest).astype(np.int32)
        coded = entropy_model.encode(shifted, entropy_model.bell(spread, largest))
        return self._HEAD.pack(float(step), spread, largest) + coded

    @classmethod
    def decode(cls, data: bytes, count: int) -> FloatArray:
        step, spread, largest = _unpacked(cls._HEAD, data)
        if not (np.isfinite(step) and step > 0):
            raise D90Error(f"the step of the coded numbers is {step}: expected a number above 0.")
        probabilities = entropy_model.bell(spread, largest)
        symbols = entropy_model.decode(data[cls._HEAD.size :], probabilities, count)
        return (symbols - largest).astype(np.float32) * np.float32(step)


@dataclass(frozen=True)
class CodebookCodec(Codec):
    """The nearest of r levels, which are in the file too, coded by how often each is used.

    Bytes: r (1 byte), the levels in ascending order (float16 each), how often each is used, as a
    share of the commonest (1 byte each, 255 for that one), the coded numbers of levels.

    Attributes:
        levels: from 2 to 255 numbers.
    """

    levels: Sequence[float]

    def encode(self, numbers: FloatArray) -> bytes:
        with np.errstate(over="ignore"):
            levels = np.unique(np.asarray(self.levels, dtype="<f2"))
        if not 2 <= len(levels) <= 255 or not np.isfinite(levels).all():
            raise D90Error(f"{len(levels)} different finite levels: expected from 2 to 255.")
        nearest = np.abs(numbers[:, None] - levels.astype(np.float32)[None, :]).argmin(1)
        counts = np.bincount(nearest, minlength=len(levels))
        shares = np.maximum(np.rint(255 * counts / counts.max()), 1).astype(np.uint8)
        order = _rarest_first(shares)
        places = np.argsort(order)[nearest].astype(np.int32)
        coded = entropy_model.encode(places, _as_probabilities(shares[order]))
        return bytes([len(levels)]) + levels.tobytes() + shares.tobytes() + coded

    @classmethod
    def decode(cls, data: bytes, count: int) -> FloatArray:
        r = data[0] if data else 0
        body = 1 + 3 * r
        if r < 2 or len(data) < body:
            raise D90Error("the levels of the coded numbers are cut off.")
        levels = np.frombuffer(data[1 : 1 + 2 * r], dtype="<f2").astype(np.float32)
        shares = np.frombuffer(data[1 + 2 * r : body], dtype=np.uint8)
        if not np.isfinite(levels).all() or (np.diff(levels) <= 0).any() or (shares == 0).any():
            raise D90Error("the levels of the coded numbers are damaged.")
        order = _rarest_first(shares)
        return levels[
            order[entropy_model.decode(data[body:], _as_probabilities(shares[order]), count)]
        ]


CODECS: Mapping[str, type[Codec]] = MappingProxyType(
    {
        "float32": Float32Codec,
        "float16": Float16Codec,
        "uniform": UniformCodec,
        "levels": CodebookCodec,
    }
)
"""Names of codes in a file."""


def get_codec(name: str) -> type[Codec]:
    """The code of that name.

    Raises:
        D90Error: there is none.
    """
    if name not in CODECS:
        raise unknown_name("code of numbers", name, CODECS)
    return CODECS[name]


def codec_name(code: Codec) -> str:
    """The name of a code."""
    return next(name for name, kind in CODECS.items() if isinstance(code, kind))


def _rarest_first(shares: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The levels in the order of the coder, for which a last run of symbol 0 is free."""
    return np.argsort(shares, kind="stable")


def _as_probabilities(shares: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Exact in float64 up to the division, which every machine rounds alike."""
    return shares.astype(np.float64) / float(shares.sum(dtype=np.int64))


def _plain(data: bytes, count: int, kind: str) -> FloatArray:
    size = np.dtype(kind).itemsize
    if len(data) != count * size:
        raise D90Error(f"{len(data)} bytes of numbers: expected {count} times {size}.")
    return np.frombuffer(data, dtype=kind).astype(np.float32)


def _unpacked(head: struct.Struct, data: bytes) -> tuple[float, int, int]:
    if len(data) < head.size:
        raise D90Error("the coded numbers are cut off.")
    step, spread, largest = head.unpack_from(data)
    return step, spread, largest
