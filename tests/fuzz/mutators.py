"""Mutations of files: of their bytes, and of the values in JSON, TOML, tables and safetensors.

All randomness is from the `random.Random` that is given, so an input is a function of its seed.
"""

from __future__ import annotations

import gzip
import io
import json
import random
import re
from collections.abc import Callable
from typing import Any

RAW = {
    "@digits@": "9" * 5000,
    "@huge@": "1" + "0" * 299,
    "@float@": "1e999",
    "@nan@": "NaN",
    "@infinity@": "-Infinity",
    "@lists@": "[" * 2000 + "]" * 2000,
    "@deep@": "[" * 100_000,
    "@objects@": '{"a":' * 1500 + "1" + "}" * 1500,
    "@surrogate@": '"\\ud800"',
    "@pair@": '"\\udc00\\ud800 \\ud83d"',
    "@zero@": "-0",
    "@cut@": '"abc',
}
"""JSON that Python's values cannot stand for: a string with this content is replaced by it."""

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 7, 255, 2**31, 2**32, 2**53 + 1, 2**63, 2**64, -(2**63)),
    *(0.5, 1e-320, 1e308, -1.5, float("nan"), float("inf")),
    *("", " ", "a", "ok", "0", "1", "nan", "\x00", "a\nb", "\x1b[31mred", "\u202e", "\u2028"),
    *("../outside", "/etc/passwd", "x" * 5000, "\ufeff", "é", "\U0001f600", "[red]", "$a$", "%s%n"),
    *([], {}, [[]], [None], {"": 0}, {"a": {"b": []}}, [1, "a", None, 2.5]),
    *RAW,
)
NUMBERS = (0, 1, 7, 8, 255, 65_535, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**53, 2**63 - 1, 2**64 - 1)
MARKERS = (b"\x00", b"\xff", b"\n", b'"', b"{", b"]", b",", b"\t", b"\xed\xa0\x80", b"\xef\xbb\xbf")
LITERALS = (
    *("1", "-1", "0", "1e400", "nan", "-inf", "true", '"a"', '""', "[]", "{}", "[[1]]", "'\\'"),
    *("9" * 400, "9" * 5000, "[" * 900 + "]" * 900, "[" * 50_000, "{a={b={}}}", "1979-05-27"),
    *("1979-05-27T07:32:00Z", "07:32:00", '"\\ud800"', '"\\u0000"', '"\\u001b[31m"', '["a", 1]'),
    *("0x7fffffffffffffffff", "1_0", "[1, 2", "a", "'''", '"x\ty"', "9999-99-99", '"' + "x" * 9000),
)
MAX_GROWN = 1 << 16
"""Bytes after which mutations do not make an input longer."""


def mutate_bytes(rng: random.Random, data: bytes) -> bytes:
    """One to four flips, cuts, copies, insertions or numbers written over the bytes."""
    content = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(len(content) + 1)
        length = rng.choice((1, 1, 2, 4, 8, rng.randrange(1, 65)))
        match rng.randrange(7):
            case 0 if at < len(content):
                content[at] ^= 1 << rng.randrange(8)
            case 1:
                del content[at : at + length]
            case 2:
                del content[at:]
            case 3:
                start = rng.randrange(len(content) + 1)
                content[at:at] = content[start : start + length]
            case 4:
                content[at:at] = rng.choice((rng.randbytes(length), rng.choice(MARKERS)))
            case 5 if len(content) < MAX_GROWN:
                content[at:at] = bytes(content[at : at + length]) * rng.choice((2, 10, 100))
            case _:
                width = rng.choice((1, 2, 4, 8))
                number = rng.choice((*NUMBERS, len(content), len(content) + 1)) % 256**width
                content[at : at + width] = number.to_bytes(width, rng.choice(("little", "big")))
    return bytes(content)


def mutate_json(rng: random.Random, data: bytes) -> bytes:
    """Other values, keys and orders in JSON; its bytes, one time in five or if it is none."""
    if rng.random() < 0.2:
        return mutate_bytes(rng, data)
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):  # of an earlier mutation
        return mutate_bytes(rng, data)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        value = mutate_value(rng, value)
    return dump(rng, value)


def mutate_value(rng: random.Random, value: Any) -> Any:
    """The value, changed in one place, which is as often deep as not."""
    if isinstance(value, dict) and value and rng.random() < 0.93:
        name = rng.choice([*value])
        match rng.randrange(8):
            case 0:
                return {key: item for key, item in value.items() if key != name}
            case 1:
                return {**value, f"{name}@twice@": rng.choice(VALUES)}
            case 2:
                return {**value, rng.choice(("", "x" * 300, "a\nb", "@surrogate@", "é")): 1}
            case 3:
                return {**value, name: value[rng.choice([*value])]}
            case _:
                return {**value, name: mutate_value(rng, value[name])}
    if isinstance(value, list) and value and rng.random() < 0.9:
        at = rng.randrange(len(value))
        match rng.randrange(6):
            case 0:
                return value[:at] + value[at + 1 :]
            case 1:
                return value + value[at:] * rng.choice((1, 1, 50))
            case 2:
                return [*value[:at], rng.choice(VALUES), *value[at:]]
            case _:
                return [*value[:at], mutate_value(rng, value[at]), *value[at + 1 :]]
    if isinstance(value, str) and value and rng.random() < (0.95 if value[0] == "{" else 0.4):
        return mutate_nested(rng, value) or rng.choice(VALUES)
    if isinstance(value, int | float) and rng.random() < 0.4:
        return rng.choice((-value, value + 1, value * 1000, float(value), str(value), value / 3))
    return rng.choice(VALUES)


def mutate_nested(rng: random.Random, text: str) -> str:
    """A string, mutated as JSON if it holds an object, as characters otherwise."""
    if text.startswith("{"):
        return mutate_json(rng, text.encode("utf-8", "replace")).decode("utf-8", "replace")
    data = text.encode("utf-8", "replace")
    return mutate_bytes(rng, data).decode("utf-8", rng.choice(("replace", "ignore")))


def dump(rng: random.Random, value: Any) -> bytes:
    """The value as JSON with the marks of `RAW` and of keys that are there twice."""
    is_ascii = rng.random() < 0.7
    text = json.dumps(value, ensure_ascii=is_ascii, indent=rng.choice((None, None, 1)))
    for mark, raw in RAW.items():
        if mark in text:
            text = text.replace(f'"{mark}"', raw)
    return text.replace("@twice@", "").encode("utf-8", "surrogatepass")


def mutate_json_lines(rng: random.Random, data: bytes) -> bytes:
    """JSON of one line, or the order and number of the lines."""
    lines = data.splitlines(keepends=True)
    if not lines or rng.random() < 0.1:
        return mutate_bytes(rng, data)
    at = rng.randrange(len(lines))
    match rng.randrange(6):
        case 0:
            lines[at] = rng.choice((b"", b"\n", b"[]\n", b"null\n", b"{}\n", b"{}{}\n", b"\xff\n"))
        case 1:
            lines[at:at] = [rng.choice(lines)] * rng.choice((1, 3, 200))
        case _:
            lines[at] = mutate_json(rng, lines[at]).replace(b"\n", b" ") + b"\n"
    return b"".join(lines)


def mutate_table(rng: random.Random, data: bytes) -> bytes:
    """Other cells, columns and quotes in CSV or TSV."""
    if rng.random() < 0.2:
        return mutate_bytes(rng, data)
    separator = rng.choice((b",", b"\t", b",", b"\t", b";"))
    rows = [line.split(separator) for line in data.splitlines()]
    row = rng.choice(rows) if rows else []
    at = rng.randrange(len(row)) if row else 0
    match rng.randrange(6):
        case 0:
            row[at:at] = [row[at]] if row else [b"x"]
        case 1:
            del row[at : at + 1]
        case 2:
            rows.append(row)
        case 3:
            row[at : at + 1] = [b'"' + rng.choice((b"a", b"", b'"a', b"\n" * 50, b"x" * 140_000))]
        case _:
            value = rng.choice(VALUES)
            row[at : at + 1] = [str(value).encode("utf-8", "surrogatepass")]
    return rng.choice((b"\n", b"\n", b"\r\n", b"\r")).join(map(separator.join, rows))


def mutate_toml(rng: random.Random, data: bytes) -> bytes:
    """Other literals and keys in TOML."""
    if rng.random() < 0.2:
        return mutate_bytes(rng, data)
    lines = data.decode("utf-8", "replace").splitlines()
    at = rng.randrange(len(lines)) if lines else 0
    key = lines[at].partition("=")[0].strip() if lines else "a"
    literal = rng.choice(LITERALS)
    dots = ".".join([key] * rng.choice((2, 3, 500, 3000)))
    line = rng.choice(
        (*[f"{key} = {literal}"] * 6, f"{dots} = 1", f"[{dots}]", f"[[{key}]]", f'"{key}\\n" = 1')
    )
    if rng.random() < 0.2:
        lines.insert(at, line)
    else:
        lines[at : at + 1] = [line]
    return "\n".join(lines).encode()


def mutate_text(rng: random.Random, data: bytes) -> bytes:
    """Bytes, or characters that split lines, end texts or are no characters."""
    if rng.random() < 0.5:
        return mutate_bytes(rng, data)
    text = rng.choice([value for value in VALUES if isinstance(value, str)])
    at = rng.randrange(len(data) + 1)
    return data[:at] + (text * rng.choice((1, 1, 40))).encode("utf-8", "surrogatepass") + data[at:]


def mutate_safetensors(rng: random.Random, data: bytes) -> bytes:
    """The JSON of the header or of its metadata, tensors of other forms, or the bytes.

    The length of the header is written anew, and so are the offsets of other tensors.
    """
    end = 8 + int.from_bytes(data[:8], "little")
    kind = rng.random()
    if kind < 0.15 or end > len(data):
        return mutate_bytes(rng, data)
    header, body = data[8:end], data[end:]
    if kind < 0.7:
        content = json.loads(header)
        content["__metadata__"] = mutate_value(rng, content["__metadata__"])
        header = dump(rng, content)
    elif kind < 0.9:
        header, body = _other_tensors(rng, json.loads(header), body)
    else:
        header = mutate_json(rng, header)
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + body


def _other_tensors(rng: random.Random, header: Any, body: bytes) -> tuple[bytes, bytes]:
    """A valid file with a tensor too few or too many, or of another name, shape, type or value."""
    tensors = [[key, item] for key, item in header.items() if key != "__metadata__"]
    parts = {key: body[slice(*item["data_offsets"])] for key, item in tensors}
    tensor = rng.choice(tensors)
    name, item = tensor
    match rng.randrange(6):
        case 0:
            tensors.remove(tensor)
        case 1:
            tensors.append([f"{name}{rng.choice(('', '.', 'x'))}", dict(item)])
            parts[tensors[-1][0]] = parts[name]
        case 2:
            tensor[0] = rng.choice((*parts, "optimizer", "optimizer.x.exp_avg", "parameter.", "a"))
            parts[tensor[0]] = parts[name]
        case 3:
            item["shape"] = rng.choice(
                ([1, *item["shape"]], item["shape"][::-1], [*item["shape"], 1])
            )
        case 4:
            item["dtype"] = rng.choice(("I32", "U32", "F32"))
        case _:
            value = rng.choice((b"\0\0\xc0\x7f", b"\0\0\x80\xff", b"\xff\xff\x7f\x7f", bytes(4)))
            parts[name] = value * (len(parts[name]) // 4)
    out, start = {"__metadata__": header["__metadata__"]}, 0
    for key, item in tensors:
        out[key] = {**item, "data_offsets": [start, start + len(parts[key])]}
        start += len(parts[key])
    return json.dumps(out).encode(), b"".join(parts[key] for key in out if key != "__metadata__")


def mutate_parquet(rng: random.Random, data: bytes) -> bytes:
    """The footer, with its length and the marks kept; the pages; or other types of columns."""
    length = int.from_bytes(data[-8:-4], "little")
    body, footer = data[4 : -8 - length], data[-8 - length : -8]
    match rng.randrange(4):
        case 0:
            return mutate_bytes(rng, data)
        case 1:
            body = mutate_bytes(rng, body)
        case 2:
            return _other_columns(rng)
        case _:
            footer = mutate_bytes(rng, footer)
    return b"PAR1" + body + footer + len(footer).to_bytes(4, "little") + b"PAR1"


def _other_columns(rng: random.Random) -> bytes:
    import pyarrow
    from pyarrow import parquet

    def column() -> Any:
        value = rng.choice([0, 1, 2.5, "a", "b", None, b"\xff", True, [1], {"a": 1}, 2**53])
        values = pyarrow.array([value, None, value, value][: rng.choice((2, 4))])
        times = rng.choice([pyarrow.timestamp("s"), pyarrow.time64("us"), pyarrow.uint64()])
        if isinstance(value, int) and not isinstance(value, bool) and rng.random() < 0.5:
            return values.cast(times)
        return values.dictionary_encode() if rng.random() < 0.1 and value == "a" else values

    columns = [column() for _ in range(rng.randrange(4))]
    rows = min(map(len, columns), default=0)
    names = [rng.choice(("text", "label", "text\n", "", "é", "label")) for _ in columns]
    schema = pyarrow.table([values[:rows] for values in columns], names=names)
    out = io.BytesIO()
    parquet.write_table(schema, out, compression=rng.choice(("none", "snappy", "gzip")))
    return out.getvalue()


def compressed(inner: Mutator) -> Mutator:
    """A mutator of gzip files: of what they hold, or of their bytes."""

    def mutate(rng: random.Random, data: bytes) -> bytes:
        if rng.random() < 0.3:
            return mutate_bytes(rng, data)
        content = inner(rng, gzip.decompress(data))
        if rng.random() < 0.002:
            content += rng.choice((b"\0" * 40_000_000, b"a" * 40_000_000, b"{}\n" * 100_000))
        return gzip.compress(content, 1, mtime=0)

    return mutate


Mutator = Callable[[random.Random, bytes], bytes]

MUTATORS: dict[str, Mutator] = {
    ".json": mutate_json,
    ".jsonl": mutate_json_lines,
    ".jsonl.gz": compressed(mutate_json_lines),
    ".csv": mutate_table,
    ".tsv": mutate_table,
    ".txt": mutate_text,
    ".txt.gz": compressed(mutate_text),
    ".toml": mutate_toml,
    ".parquet": mutate_parquet,
    ".safetensors": mutate_safetensors,
}
"""By the ending of a file's name."""


def ending(name: str) -> str:
    """The ending of a file's name, with that of a compressed file's content."""
    found = re.search(r"\.\w+(\.gz)?$", name)
    return found[0] if found else ""
