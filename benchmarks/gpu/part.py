"""A part of the check, what it is given, and what it finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
Figure = bool | int | float | str | None
Value = Figure | Mapping[str, Figure]


@dataclass(frozen=True)
class Setup:
    """What the parts run on.

    Attributes:
        device: `cuda`, or `cpu` for a rehearsal: Triton's kernels in its interpreter, tiny sizes.
        folder: of the prepared models and data.
    """

    device: str
    folder: Path

    @property
    def is_rehearsal(self) -> bool:
        """Whether there is no GPU: what needs one has `ok` None, and times mean nothing."""
        return self.device == "cpu"

    def size(self, full: T, tiny: T) -> T:
        """The first on a GPU, the second in a rehearsal."""
        return tiny if self.is_rehearsal else full

    def synchronize(self) -> None:
        """Wait for the GPU; an error of a kernel is raised here."""
        if not self.is_rehearsal:
            import torch

            torch.cuda.synchronize()


@dataclass(frozen=True)
class Result:
    """One line of the output.

    Attributes:
        name: what was checked or measured; unique within its part.
        value: a figure or several by name, as JSON.
        ok: whether it is as expected; None where nothing is checked.
        expected: the aim, for readers.
        part, seconds: filled in by the runner; seconds since the part's previous result.
    """

    name: str
    value: Value
    ok: bool | None = None
    expected: str = ""
    part: int = -1
    seconds: float = 0.0


def check(name: str, expected: str, measure: Callable[[], tuple[bool | None, Value]]) -> Result:
    """The `ok` and the value that a function returns; an exception in it is one failed check."""
    try:
        ok, value = measure()
    except Exception as error:
        return Result(name, f"{type(error).__name__}: {error}", False, expected)
    return Result(name, value, ok, expected)


@dataclass(frozen=True)
class Part:
    """Checks that run in one go.

    Attributes:
        number: by which it is selected.
        name: what it is about.
        seconds: its time limit.
        path: `module:function` of `(Setup) -> Iterator[Result]`. The module is imported when the
            part begins, so one that cannot be imported costs its own part only.
    """

    number: int
    name: str
    seconds: float
    path: str

    def run(self, setup: Setup) -> Iterator[Result]:
        """The results, as they come."""
        module, _, function = self.path.partition(":")
        yield from getattr(import_module(module), function)(setup)
