"""Feed mutated adapters to the reader: it must raise `D90Error` or return a valid adapter.

    pip install 'd90[fuzz]'
    python scripts/fuzz_adapters.py -runs=200000

Coverage-guided, with atheris and libFuzzer's options; the corpus starts from the tests' golden
files. Most mutants are given a valid checksum and header length, without which no code behind these
checks would be reached. An adapter that was read must serialize to the same bytes. An input that
takes more than 64 MB or 5 seconds is a failure.
"""

from __future__ import annotations

import inspect
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from d90.adapters import adapter, codecs, container, entropy_model
from d90.errors import D90Error

atheris: Any = import_module("atheris")  # It has no types.

GOLDEN = Path(__file__).parent.parent / "tests" / "adapters" / "golden"
REPORT_EVERY = 20_000
counts = {"valid": 0, "refused": 0}


def one_input(data: bytes) -> None:
    """Read one input; any exception but `D90Error` is a failure."""
    done = sum(counts.values())
    if done and done % REPORT_EVERY == 0:  # libFuzzer ends the process: no summary.
        print(f"{done:,} inputs: {counts}", flush=True)
    try:
        parsed = adapter.from_bytes(data)
    except D90Error:
        counts["refused"] += 1
        return
    counts["valid"] += 1
    assert parsed.parameters.shape == (parsed.subspace.d,)
    assert parsed.to_bytes() == data, "reading and writing changed the bytes"


def mutate(data: bytes, size: int, seed: int) -> bytes:
    """Mutate the whole file, its parameters, or one metadata value.

    The last two keep the header and the checksum valid.
    """
    content = parts(data)
    if content is None or seed % 4 == 0:
        return atheris.Mutate(data, size)
    metadata, dtype, body = dict(content.metadata), content.dtype, content.data
    if seed % 4 == 1:
        body = atheris.Mutate(body, size)
        body = body[: len(body) - len(body) % container.SIZES[dtype]]
    else:
        name = sorted(metadata)[seed // 4 % len(metadata)]
        changed = atheris.Mutate(metadata[name].encode(), 200)
        # Any character is possible in JSON, also a lone surrogate.
        wide = seed // 64 % 4 == 0
        metadata[name] = (
            changed[: len(changed) & ~1].decode("utf-16-le", "surrogatepass")
            if wide
            else changed.decode("latin-1")
        )
    return container.pack(container.Content(metadata, dtype, body))[:size]


def parts(data: bytes) -> container.Content | None:
    """The metadata and parameters of a file with a valid checksum, else None."""
    try:
        return container.unpack(data)
    except D90Error:
        return None


def instrument(module: ModuleType) -> None:
    """Collect coverage of the functions and methods that a module defines."""
    for value in vars(module).values():
        if getattr(value, "__module__", None) != module.__name__:
            continue
        members = vars(value).values() if inspect.isclass(value) else [value]
        for member in members:
            function = getattr(member, "__func__", member)
            if inspect.isfunction(function) and function.__module__ == module.__name__:
                atheris.instrument_func(function)


def main() -> None:
    """Fuzz, starting from the golden files."""
    with tempfile.TemporaryDirectory() as corpus:
        for path in GOLDEN.glob("*.safetensors"):
            (Path(corpus) / path.name).write_bytes(path.read_bytes())
        limits = ["-timeout=5", "-rss_limit_mb=1024", "-malloc_limit_mb=64", "-max_len=4096"]
        arguments = [sys.argv[0], *limits, *sys.argv[1:], corpus]
        for module in (codecs, container, adapter, entropy_model):
            instrument(module)
        atheris.Setup(arguments, one_input, custom_mutator=mutate)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
