"""A safetensors file with a checksum: string metadata and one vector.

Written by hand because the bytes have to be the same every time (the library writes metadata in no
fixed order), read strictly: anything but the one form that is written is refused. Any safetensors
reader opens it.
"""

from __future__ import annotations

import hashlib
import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from d90.errors import D90Error
from d90.utils.reading import parse_json

TENSOR, METADATA, CHECK = "numbers", "__metadata__", "check"

LARGEST_HEADER = 100_000
"""Bytes of the longest header that is parsed."""

SIZES = {"F32": 4, "F16": 2, "U8": 1}
"""safetensors dtypes and their bytes."""

_BLANK = "0" * 16


@dataclass(frozen=True)
class Content:
    """What a container holds.

    Attributes:
        metadata: strings by name, without the checksum.
        dtype: of the vector, a key of `SIZES`.
        data: the vector, little-endian.
    """

    metadata: Mapping[str, str]
    dtype: str
    data: bytes


def pack(content: Content) -> bytes:
    """The bytes of a file, the same every time."""
    blank = _with_check(content, _BLANK)
    return _with_check(content, _checksum(blank))


def unpack(file: bytes) -> Content:
    """What is in the bytes of a file.

    Raises:
        D90Error: when they are not a complete, unaltered adapter.
    """
    header, data = _split(file)
    metadata, dtype = _metadata(header), _dtype(header, len(data))
    check = metadata.pop(CHECK)
    content = Content(metadata, dtype, data)
    blank = _with_check(content, _BLANK)
    if check != _checksum(blank) or _with_check(content, check) != file:
        raise D90Error("it was altered after it was written (its checksum does not match).")
    return content


def _with_check(content: Content, check: str) -> bytes:
    count = len(content.data) // SIZES[content.dtype]
    header = {
        METADATA: {**content.metadata, CHECK: check},
        TENSOR: {
            "dtype": content.dtype,
            "shape": [count],
            "data_offsets": [0, len(content.data)],
        },
    }
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=True).encode()
    text += b" " * (-len(text) % 8)  # Aligned: readers map the tensor in place.
    return len(text).to_bytes(8, "little") + text + content.data


def _checksum(blank: bytes) -> str:
    """96 bits of the SHA-256 of the file with a blank check, in 16 letters."""
    return urlsafe_b64encode(hashlib.sha256(blank).digest()[:12]).decode()


def _split(file: bytes) -> tuple[dict[str, Any], bytes]:
    if len(file) < 8:
        raise D90Error("it is not an adapter, or it is cut off.")
    length = int.from_bytes(file[:8], "little")
    if length > LARGEST_HEADER:
        raise D90Error("it is not an adapter (its header is too long).")
    if len(file) < 8 + length:
        raise D90Error("it is not an adapter, or it is cut off.")
    try:
        header = parse_json(file[8 : 8 + length], "header")
    except D90Error as error:
        raise D90Error("it is not an adapter (its header is not JSON).") from error
    if not isinstance(header, dict) or set(header) != {METADATA, TENSOR}:
        raise D90Error("it is not an adapter: it may be another kind of safetensors file.")
    return header, file[8 + length :]


def _metadata(header: Mapping[str, Any]) -> dict[str, str]:
    metadata = header[METADATA]
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise D90Error("it is not an adapter (its metadata are not strings).")
    if not all(value.isascii() for value in metadata.values()):
        raise D90Error("it is not an adapter (its metadata are not ASCII).")
    if CHECK not in metadata:
        raise D90Error("it is not an adapter (it has no checksum).")
    return dict(metadata)


def _dtype(header: Mapping[str, Any], length: int) -> str:
    tensor = header[TENSOR]
    dtype = tensor.get("dtype") if isinstance(tensor, dict) else None
    if not isinstance(dtype, str) or dtype not in SIZES:
        raise D90Error(f"its tensor is of dtype {str(dtype)[:20]}: expected F32, F16 or U8.")
    if length % SIZES[dtype]:
        raise D90Error("it is cut off in the middle of an element.")
    return dtype
