"""How d parameters become bytes: as they are, rounded, or quantized and entropy-coded.

Every codec has a name in `CODECS` and two methods, `encode` and `decode`.
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
    """An encoding of d float32 values.

    `encode` may be lossy; encoding `decode(encode(x))` again is lossless.

    Attributes:
        shifts_lam: whether lam is encoded as lam - 1, which is as small as z.
    """

    shifts_lam: ClassVar[bool] = True

    @abstractmethod
    def encode(self, values: FloatArray) -> bytes:
        """Encode the values."""

    @classmethod
    @abstractmethod
    def decode(cls, data: bytes, count: int) -> FloatArray:
        """Decode `count` values from exactly these bytes.

        Raises:
            D90Error: the bytes are not an encoding of `count` values.
        """


@dataclass(frozen=True)
class Float32Codec(Codec):
    """Lossless: 4 bytes per value."""

    shifts_lam: ClassVar[bool] = False

    def encode(self, values: FloatArray) -> bytes:
        return values.astype("<f4").tobytes()

    @classmethod
    def decode(cls, data: bytes, count: int) -> FloatArray:
        return _plain(data, count, "<f4")


@dataclass(frozen=True)
class Float16Codec(Codec):
    """Rounded to 11 significant bits: 2 bytes per value."""

    def encode(self, values: FloatArray) -> bytes:
        with np.errstate(over="ignore"):
            rounded = values.astype("<f2")
        if not np.isfinite(rounded).all():
            raise D90Error("a number is too large for float16: use the float32 codec.")
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
        step: above 0, in the unit of the values.
    """

    step: float

    _HEAD = struct.Struct("<fHB")

    def encode(self, values: FloatArray) -> bytes:
        step = np.float32(self.step)
        symbols = np.rint(values / step).astype(np.int64)
        largest = int(max(np.abs(symbols).max(initial=0), 1))
        if largest > entropy_model.LARGEST:
            raise D90Error(
                f"step {self.step:g} is too fine: a number is {largest} steps (at most 127)."
            )
        spread = entropy_model.best_spread(symbols.astype(np.int32), largest)
        shifted = (symbols + largest).astype(np.int32)
        coded = entropy_model.encode(shifted, entropy_model.bell(spread, largest))
        return self._HEAD.pack(float(step), spread, largest) + coded

    @classmethod
    def decode(cls, data: bytes, count: int) -> FloatArray:
        step, spread, largest = _unpacked(cls._HEAD, data)
        if not (step > 0 and step * largest <= float(np.finfo(np.float32).max)):
            raise D90Error(
                f"the step of the coded numbers is {step}: expected a number above 0 whose "
                f"{largest}-fold is finite."
            )
        probabilities = entropy_model.bell(spread, largest)
        symbols = entropy_model.decode(data[cls._HEAD.size :], probabilities, count)
        return (symbols - largest).astype(np.float32) * np.float32(step)


@dataclass(frozen=True)
class CodebookCodec(Codec):
    """The nearest of r levels, entropy-coded by their frequencies; the file includes the levels.

    Bytes: r (1 byte), the levels in ascending order (float16 each), their frequencies relative to
    the most frequent one (1 byte each, 255 for that one), the coded indices of levels.

    Attributes:
        levels: from 2 to 255 values.
    """

    levels: Sequence[float]

    def encode(self, values: FloatArray) -> bytes:
        with np.errstate(over="ignore"):
            levels = np.unique(np.asarray(self.levels, dtype="<f2"))
        if not 2 <= len(levels) <= 255 or not np.isfinite(levels).all():
            raise D90Error(f"{len(levels)} different finite levels: expected from 2 to 255.")
        nearest = np.abs(values[:, None] - levels.astype(np.float32)[None, :]).argmin(1)
        counts = np.bincount(nearest, minlength=len(levels))
        frequencies = np.maximum(np.rint(255 * counts / counts.max()), 1).astype(np.uint8)
        order = _rarest_first(frequencies)
        indices = np.argsort(order)[nearest].astype(np.int32)
        coded = entropy_model.encode(indices, _as_probabilities(frequencies[order]))
        return bytes([len(levels)]) + levels.tobytes() + frequencies.tobytes() + coded

    @classmethod
    def decode(cls, data: bytes, count: int) -> FloatArray:
        r = data[0] if data else 0
        body = 1 + 3 * r
        if r < 2 or len(data) < body:
            raise D90Error("the levels of the coded numbers are cut off.")
        levels = np.frombuffer(data[1 : 1 + 2 * r], dtype="<f2").astype(np.float32)
        frequencies = np.frombuffer(data[1 + 2 * r : body], dtype=np.uint8)
        if (
            not np.isfinite(levels).all()
            or (np.diff(levels) <= 0).any()
            or (frequencies == 0).any()
        ):
            raise D90Error("the levels of the coded numbers are damaged.")
        order = _rarest_first(frequencies)
        return levels[
            order[entropy_model.decode(data[body:], _as_probabilities(frequencies[order]), count)]
        ]


CODECS: Mapping[str, type[Codec]] = MappingProxyType(
    {
        "float32": Float32Codec,
        "float16": Float16Codec,
        "uniform": UniformCodec,
        "levels": CodebookCodec,
    }
)
"""Codecs by the name that an adapter stores."""


def get_codec(name: str) -> type[Codec]:
    """The codec with this name.

    Raises:
        D90Error: unknown name.
    """
    if name not in CODECS:
        raise unknown_name("codec", name, CODECS)
    return CODECS[name]


def codec_name(codec: Codec) -> str:
    """The name of a codec."""
    return next(name for name, cls in CODECS.items() if isinstance(codec, cls))


def _rarest_first(frequencies: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The order of the levels in the coder, where trailing symbols 0 cost nothing."""
    return np.argsort(frequencies, kind="stable")


def _as_probabilities(frequencies: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Exact in float64 up to the division, which every machine rounds alike."""
    return frequencies.astype(np.float64) / float(frequencies.sum(dtype=np.int64))


def _plain(data: bytes, count: int, dtype: str) -> FloatArray:
    size = np.dtype(dtype).itemsize
    if len(data) != count * size:
        raise D90Error(f"{len(data)} bytes of numbers: expected {count} times {size}.")
    return np.frombuffer(data, dtype=dtype).astype(np.float32)


def _unpacked(head: struct.Struct, data: bytes) -> tuple[float, int, int]:
    if len(data) < head.size:
        raise D90Error("the coded numbers are cut off.")
    step, spread, largest = head.unpack_from(data)
    return step, spread, largest
