"""A safetensors file with a checksum: words by name, and one row of numbers.

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

TENSOR, METADATA, CHECK = "numbers", "__metadata__", "check"

LARGEST_HEADER = 100_000
"""Bytes of a header that is looked at."""

SIZES = {"F32": 4, "F16": 2, "U8": 1}
"""Kinds of numbers and their bytes."""

_BLANK = "0" * 16


@dataclass(frozen=True)
class Content:
    """What a container holds.

    Attributes:
        words: by name, the check not among them.
        kind: of the numbers, a key of `SIZES`.
        data: the numbers, little-endian.
    """

    metadata: Mapping[str, str]
    kind: str
    data: bytes


def pack(content: Content) -> bytes:
    """The bytes of a file, the same every time."""
    blank = _with_check(content, _BLANK)
    return _with_check(content, _checksum(blank))


def unpack(file: bytes) -> Content:
    """What is in the bytes of a file.

    Raises:
        D90Error: when they are not those of a whole and unaltered task file.
    """
    header, data = _split(file)
    words, kind = _words(header), _kind(header, len(data))
    check = words.pop(CHECK)
    content = Content(words, kind, data)
    blank = _with_check(content, _BLANK)
    if check != _checksum(blank) or _with_check(content, check) != file:
        raise D90Error("it was altered after it was written (its checksum does not fit).")
    return content


def _with_check(content: Content, check: str) -> bytes:
    count = len(content.data) // SIZES[content.kind]
    header = {
        METADATA: {**content.metadata, CHECK: check},
        TENSOR: {
            "dtype": content.kind,
            "shape": [count],
            "data_offsets": [0, len(content.data)],
        },
    }
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=True).encode()
    text += b" " * (-len(text) % 8)  # Readers map the numbers where they lie.
    return len(text).to_bytes(8, "little") + text + content.data


def _checksum(blank: bytes) -> str:
    """96 bits of the SHA-256 of the file with a blank check, in 16 letters."""
    return urlsafe_b64encode(hashlib.sha256(blank).digest()[:12]).decode()


def _split(file: bytes) -> tuple[dict[str, Any], bytes]:
    if len(file) < 8:
        raise D90Error("it is no task file, or cut off.")
    length = int.from_bytes(file[:8], "little")
    if length > LARGEST_HEADER:
        raise D90Error("it is no task file (its header is too long).")
    if len(file) < 8 + length:
        raise D90Error("it is no task file, or cut off.")
    try:
        header = json.loads(file[8 : 8 + length])
    except (ValueError, RecursionError) as error:
        raise D90Error("it is no task file (its header is no JSON).") from error
    if not isinstance(header, dict) or set(header) != {METADATA, TENSOR}:
        raise D90Error("it is no task file: it may be another kind of safetensors file.")
    return header, file[8 + length :]


def _words(header: Mapping[str, Any]) -> dict[str, str]:
    words = header[METADATA]
    if not isinstance(words, dict) or not all(isinstance(word, str) for word in words.values()):
        raise D90Error("it is no task file (its metadata are not words).")
    if CHECK not in words:
        raise D90Error("it is no task file (it has no checksum).")
    return dict(words)


def _kind(header: Mapping[str, Any], length: int) -> str:
    tensor = header[TENSOR]
    kind = tensor.get("dtype") if isinstance(tensor, dict) else None
    if not isinstance(kind, str) or kind not in SIZES:
        raise D90Error(f"its numbers are of kind {str(kind)[:20]}: expected F32, F16 or U8.")
    if length % SIZES[kind]:
        raise D90Error("it is cut off in the middle of a number.")
    return kind
