"""Feed mutated task files to the reader: a named error or a valid file, never anything else.

    pip install 'd90[fuzz]'
    python scripts/fuzz_task_files.py -runs=200000

Coverage-guided (atheris, libFuzzer's options). It starts from the golden files of the tests. Most
mutants get a right checksum and a right header length, or nothing behind these checks would ever be
reached. What is read must be written again to the same bytes; an input that takes more than
64 MB or 5 seconds is a finding.
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
EVERY = 20_000
counts = {"valid": 0, "refused": 0}


def one_input(data: bytes) -> None:
    """Read a file; anything but `D90Error` is a finding."""
    done = sum(counts.values())
    if done and done % EVERY == 0:  # libFuzzer ends the process: there is no last word.
        print(f"{done:,} inputs: {counts}", flush=True)
    try:
        file = adapter.from_bytes(data)
    except D90Error:
        counts["refused"] += 1
        return
    counts["valid"] += 1
    assert file.parameters.shape == (file.subspace.d,)
    assert file.to_bytes() == data, "read and written again it is another file"


def mutate(data: bytes, size: int, seed: int) -> bytes:
    """libFuzzer's own mutations: of the whole file, of its numbers, or of one of its words.

    The last two get a right header and checksum: else nothing behind these would be reached.
    """
    found = parts(data)
    if found is None or seed % 4 == 0:
        return atheris.Mutate(data, size)
    words, kind, body = dict(found.metadata), found.kind, found.data
    if seed % 4 == 1:
        body = atheris.Mutate(body, size)
        body = body[: len(body) - len(body) % container.SIZES[kind]]
    else:
        name = sorted(words)[seed // 4 % len(words)]
        words[name] = atheris.Mutate(words[name].encode(), 200).decode("latin-1")
    return container.pack(container.Content(words, kind, body))[:size]


def parts(data: bytes) -> container.Content | None:
    """The words and numbers of a file with a right checksum; None of any other."""
    try:
        return container.unpack(data)
    except D90Error:
        return None


def instrument(module: ModuleType) -> None:
    """Watch which lines of a module's own functions and methods are reached."""
    for value in vars(module).values():
        if getattr(value, "__module__", None) != module.__name__:
            continue
        members = vars(value).values() if inspect.isclass(value) else [value]
        for member in members:
            function = getattr(member, "__func__", member)
            if inspect.isfunction(function) and function.__module__ == module.__name__:
                atheris.instrument_func(function)


def main() -> None:
    """Fuzz, from the golden files on."""
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
