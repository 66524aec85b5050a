"""Feed mutated files to a reader and judge what it does with each.

A file is accepted, or refused with a D90Error of one printable line. All else is a finding: another
exception, two seconds of computing, a quarter of a gigabyte of memory, the death of the process.
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz.readers import READERS, Prepared

from d90.errors import MAX_LINE, D90Error

MAX_SECONDS = 2.0
"""Seconds of the processor that an input may take: other programs do not count."""

HANG_SECONDS = 20
"""Seconds of the clock after which an input is given up."""

MAX_GROWTH = 256
"""Megabytes that an input may add to the process."""

MEMORY = Path("/dev/shm")


@dataclass
class Tally:
    """What became of a number of inputs of one reader.

    Attributes:
        inputs, accepted, refused: counts; the rest are findings.
        slowest: processor seconds of the slowest input.
        growth: megabytes by which the memory grew most in one input.
        findings: number of the input, name of its file, and what happened.
    """

    inputs: int = 0
    accepted: int = 0
    refused: int = 0
    slowest: float = 0.0
    growth: float = 0.0
    findings: list[tuple[int, str, str]] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Count the inputs of another tally too."""
        self.inputs += other.inputs
        self.accepted += other.accepted
        self.refused += other.refused
        self.slowest = max(self.slowest, other.slowest)
        self.growth = max(self.growth, other.growth)
        self.findings += other.findings


class Hang(BaseException):
    """An input took too long."""


def make_input(prepared: Prepared, reader: str, seed: int, number: int) -> tuple[str, bytes]:
    """The name and content of an input: a function of the reader, the seed and the number."""
    rng = random.Random(f"{reader} {seed} {number}")
    names = sorted(prepared.files)
    name = rng.choice(names)
    data = prepared.mutator(name)(rng, prepared.files[name])
    if rng.random() < 0.25:
        with suppress(Exception):  # What is mutated may be no such file any more.
            data = prepared.mutator(name)(rng, data)
    return name, data


def judge(prepared: Prepared, path: Path, tally: Tally, number: int = 0) -> None:
    """Read a file and count it as accepted, refused or a finding."""
    before, began = _reset_peak(), time.process_time()
    finding = None
    try:
        with _alarm(), warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)  # It would be a line of its own.
            prepared.read(path)
        tally.accepted += 1
    except D90Error as error:
        finding = flaw(str(error))
        tally.refused += finding is None
    except Hang:
        finding = f"more than {HANG_SECONDS} s"
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(frame.filename).name}:{frame.lineno}"
        finding = f"{type(error).__name__} at {where}: {str(error)[:200]!r}"
    seconds, growth = time.process_time() - began, _peak() - before
    tally.inputs += 1
    tally.slowest, tally.growth = max(tally.slowest, seconds), max(tally.growth, growth)
    if finding is None and seconds > MAX_SECONDS:
        finding = f"{seconds:.1f} s"
    if finding is None and growth > MAX_GROWTH:
        finding = f"{growth:.0f} MB"
    if finding is not None:
        tally.findings.append((number, path.name, finding))


def flaw(message: str) -> str | None:
    """What is wrong with the message of an error; None if it is one printable line."""
    if not message:
        return "an empty message"
    if len(message) > MAX_LINE:
        return f"a message of {len(message)} characters"
    bad = next((c for c in message if ord(c) < 32 or 126 < ord(c) < 160 or "\ud7ff" < c < "\ue000"
                or c in "\u2028\u2029\u202e"), None)  # fmt: skip
    return None if bad is None else f"a message with {bad!r}: {message[:150]!r}"


def run(
    reader: str, seed: int, numbers: range, progress: Path | None = None, chunk: int = 500
) -> Iterator[Tally]:
    """Make and judge the inputs of these numbers; a tally after each chunk.

    Args:
        reader: a key of `READERS`.
        seed, numbers: of the inputs.
        progress: a file that always holds the number of the current input.
        chunk: inputs per tally.
    """
    with working_folder() as folder:
        prepared = READERS[reader].prepare(folder)
        _check_valid(prepared, folder)
        tally = Tally()
        marker = None if progress is None else os.open(progress, os.O_RDWR | os.O_CREAT, 0o600)
        for number in numbers:
            if marker is not None:
                os.pwrite(marker, b"%20d" % number, 0)
            name, data = make_input(prepared, reader, seed, number)
            path = folder / name
            path.write_bytes(data)
            judge(prepared, path, tally, number)
            path.unlink(missing_ok=True)
            if tally.inputs == chunk:
                yield tally
                tally = Tally()
        yield tally


def _check_valid(prepared: Prepared, folder: Path) -> None:
    """The files that mutations start from are accepted; modules are loaded when this returns."""
    for name, data in prepared.files.items():
        (folder / name).write_bytes(data)
        prepared.read(folder / name)
        (folder / name).unlink()


@contextmanager
def working_folder() -> Iterator[Path]:
    """A temporary folder, in memory if the system has one there."""
    parent = MEMORY if os.access(MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="d90-fuzz-", dir=parent) as folder:
        yield Path(folder)


def save(folder: Path, reader: str, seed: int, finding: tuple[int, str, str]) -> str:
    """Write the file of a finding and what was found; the command that reads it again."""
    number, _, what = finding
    with working_folder() as place:
        name, data = make_input(READERS[reader].prepare(place), reader, seed, number)
    target = folder / f"{reader}-{seed}-{number}" / name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    command = f"python -m tests.fuzz --reader {reader} --replay '{target}'"
    about = {"reader": reader, "seed": seed, "number": number, "what": what, "command": command}
    (target.parent / "finding.json").write_text(json.dumps(about, indent=2) + "\n")
    return command


def replay(reader: str, file: Path) -> Tally:
    """Read one file as the fuzzer does."""
    tally = Tally()
    with working_folder() as folder:
        prepared = READERS[reader].prepare(folder)
        path = folder / file.name
        path.write_bytes(file.read_bytes())
        judge(prepared, path, tally)
    return tally


@contextmanager
def _alarm() -> Iterator[None]:
    """Raise `Hang` when the time is over."""

    def ring(*_: object) -> None:
        raise Hang

    previous = signal.signal(signal.SIGALRM, ring)
    signal.alarm(HANG_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


def _reset_peak() -> float:
    """Make Linux count the peak of the memory anew; the memory now, in MB."""
    with suppress(OSError), open("/proc/self/clear_refs", "wb") as file:
        file.write(b"5")
    return _peak()


def _peak() -> float:
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
