"""Files from outside, read with limits: text, lines, JSON and TOML, and the types of their values.

Whatever a file holds, these functions return a value that the rest can rely on, or raise one
`D90Error`: on numbers of thousands of digits, nesting without end, lone surrogates (which no file
can hold in UTF-8), two keys of one name, lines of gigabytes.
"""

from __future__ import annotations

import gzip
import io
import json
import math
import re
import sys
import types
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, Literal, TextIO, Union, get_args, get_origin, get_type_hints

from d90.errors import D90Error

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MAX_FILE = 1 << 26
"""Bytes of the largest file that is read as a whole."""

MAX_CHARACTERS = 1 << 24
"""Characters of the longest line."""

MAX_UNPACKED = 1 << 30
"""Bytes that a compressed file of data may hold."""

MAX_DIGITS = 300
"""Digits of the longest integer: a float can hold it."""

MAX_PARTS = 1000
"""Parts of the longest dotted key in TOML."""

MAX_DEPTH = 100
"""Levels of the deepest value: Python can then print it anywhere."""

_SURROGATE = re.compile("[\ud800-\udfff]")
_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def read_text(file: Path, what: str) -> str:
    """The text of a file in UTF-8, of at most `MAX_FILE` bytes.

    Raises:
        D90Error: it cannot be read, is not UTF-8 or is too large; the message begins with `what`.
    """
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_FILE + 1)
        if len(content) > MAX_FILE:
            raise D90Error(f"{what} '{file}' has more than {MAX_FILE:,} bytes.")
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise D90Error(f"{what} '{file}' is not UTF-8 text ({error.reason}).") from error
    except OSError as error:
        raise D90Error(f"{what} '{file}' cannot be read: {error.strerror}.") from error


def open_text(path: Path, *, newline: str | None = None, unpacked: int | None = None) -> TextIO:
    """Open a text file in UTF-8 for reading; one whose name ends in `.gz` is decompressed.

    Args:
        path: the file.
        newline: as of `open`.
        unpacked: bytes that a compressed file may hold; by default `MAX_UNPACKED`. Reading on
            raises D90Error.

    Raises:
        OSError: it cannot be opened.
    """
    if path.suffix != ".gz":
        return path.open(encoding="utf-8-sig", newline=newline)
    file = _BoundedGzip(path, MAX_UNPACKED if unpacked is None else unpacked)
    return io.TextIOWrapper(file, encoding="utf-8-sig", newline=newline)


class _BoundedGzip(gzip.GzipFile):
    """A gzip file, which may be a bomb: its content is up to a thousand times as long.

    Raises:
        D90Error: on reading, when it holds more than `most` bytes.
    """

    def __init__(self, path: Path, most: int) -> None:
        super().__init__(path, "rb")
        self._where, self._most = path, most

    def read(self, size: int | None = -1) -> bytes:
        return self._checked(super().read(self._most + 1 if size in (None, -1) else size))

    def read1(self, size: int = -1) -> bytes:
        return self._checked(super().read1(size))

    def _checked(self, data: bytes) -> bytes:
        if self.tell() > self._most:
            raise D90Error(
                f"{self._where}: holds more than {self._most:,} bytes: decompress it, or split it."
            )
        return data


def read_lines(file: TextIO, where: str) -> Iterator[str]:
    """The lines of an open file, each of at most `MAX_CHARACTERS` characters.

    Raises:
        D90Error: a line is longer.
    """
    number = 0
    while line := file.readline(MAX_CHARACTERS + 1):
        number += 1
        if len(line) > MAX_CHARACTERS:
            raise D90Error(
                f"{where}, line {number}: longer than {MAX_CHARACTERS:,} characters: break it."
            )
        yield line


def parse_json(text: str | bytes, where: str) -> Any:
    """The value of a JSON text.

    Raises:
        D90Error: it is not JSON, or has a value that d90 does not read.
    """
    try:
        # `json` itself would decode bytes with "surrogatepass".
        text = text if isinstance(text, str) else text.decode("utf-8")
        value = _DECODER.decode(text)
        if text.count("[") + text.count("{") > MAX_DEPTH:
            _check_depth(value)
        if _ESCAPED_SURROGATE.search(text):
            check_encodable(value)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
        raise D90Error(f"{where}: not valid JSON ({error.msg} at {place}).") from error
    except (ValueError, RecursionError) as error:
        raise D90Error(f"{where}: not valid JSON ({_reason(error)}).") from error
    return value


def parse_toml(text: str, where: str) -> dict[str, Any]:
    """The table of a TOML text.

    Raises:
        D90Error: it is not TOML, or has a value that d90 does not read.
    """
    try:
        # The parser's memory grows with the square of the parts of a dotted key.
        if any(part.count(".") > MAX_PARTS for part in re.split(r"[=\n]", text)):
            raise ValueError(f"more than {MAX_PARTS:,} dots in a row")
        value = tomllib.loads(text)
        _check_depth(value)
        return value
    except (ValueError, RecursionError) as error:
        raise D90Error(f"{where} is not TOML: {_reason(error)}.") from error


def check_encodable(value: Any) -> None:
    """Check that every string in a JSON value can be written in UTF-8.

    Raises:
        ValueError: a string has a lone surrogate.
    """
    if isinstance(value, str):
        if _SURROGATE.search(value):
            raise ValueError("a lone surrogate, which is no character")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            check_encodable(key)
            check_encodable(item)
    elif isinstance(value, Sequence):
        for item in value:
            check_encodable(item)


def check_fields(cls: type, values: Any, where: str) -> dict[str, Any]:
    """The values by name, checked to be those of a dataclass: none missing, none of another type.

    Args:
        cls: the dataclass; JSON lists stand for its tuples.
        values: from `parse_json`.
        where: how an error begins.

    Raises:
        D90Error: a field is missing, unknown or of another type.
    """
    required = [f.name for f in fields(cls) if f.default is f.default_factory is MISSING]
    found = check_keys(values, get_type_hints(cls), required, where)
    for name in found.keys() - get_type_hints(cls).keys():
        raise D90Error(f"{where}: unknown key '{name[:50]}'.")
    return found


def check_keys(
    values: Any, hints: Mapping[str, Any], required: Sequence[str], where: str
) -> dict[str, Any]:
    """The values by name, of the types in `hints`; other names are not checked.

    Raises:
        D90Error: not an object; a required key is missing; a value is of another type.
    """
    if not isinstance(values, dict):
        raise D90Error(f"{where}: expected an object, got {_kind(values)}.")
    for name in required:
        if name not in values:
            raise D90Error(f"{where}: key '{name}' is missing.")
    for name in values.keys() & hints.keys():
        check_type(values[name], hints[name], f"{where}: {name}")
    return values


def check_ranges(
    values: Mapping[str, Any], ranges: Mapping[str, tuple[float, float]], where: str
) -> None:
    """Check that the numbers among the values lie in their ranges, ends included.

    Raises:
        D90Error: one does not.
    """
    for name, (low, high) in ranges.items():
        value = values.get(name)
        if value is not None and not low <= value <= high:
            raise D90Error(f"{where}: {name} is {_kind(value)}: expected {low:g} to {high:g}.")


def check_type(value: Any, hint: Any, where: str) -> None:
    """Check that a JSON value is of a type.

    Args:
        value: from `parse_json`.
        hint: `int`, `float` (finite; also an integer), `str`, `bool`, None, `Any`, a union or
            `Literal`, or a mapping, tuple, list or deque of these.
        where: how an error begins.

    Raises:
        D90Error: it is not.
    """
    if not _is_a(value, hint):
        name = getattr(hint, "__name__", None) if get_origin(hint) is None else None
        raise D90Error(f"{where} is {_kind(value)}: expected {name or _readable(hint)}.")


def _is_a(value: Any, hint: Any) -> bool:
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, types.UnionType):
        return any(_is_a(value, argument) for argument in arguments)
    if origin is Literal:
        return value in arguments
    if origin is tuple:
        if not isinstance(value, list | tuple):
            return False
        if arguments[-1] is Ellipsis:
            return all(_is_a(item, arguments[0]) for item in value)
        return len(value) == len(arguments) and all(map(_is_a, value, arguments))
    if origin in (list, deque):
        return isinstance(value, list) and all(_is_a(item, arguments[0]) for item in value)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return isinstance(value, dict) and all(_is_a(v, arguments[1]) for v in value.values())
    if hint is None or hint is type(None):
        return value is None
    if hint is float:
        return _is_a(value, int) or (isinstance(value, float) and math.isfinite(value))
    return isinstance(value, hint) and (hint is bool or not isinstance(value, bool))


def _kind(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:36]} ..."


def _readable(hint: Any) -> str:
    return str(hint).replace("typing.", "").replace("collections.abc.", "")


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"key '{twice[:50]}' twice")
    return found


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            item
            for outer in level
            if isinstance(outer, dict | list)
            for item in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return
    raise ValueError("nested too deeply")


def _integer(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a number of {len(text):,} digits")
    return int(text)


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    message = str(error)
    return "a number of thousands of digits" if "integer string conversion" in message else message


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_int=_integer)
