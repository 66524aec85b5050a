"""Triton kernels compiled for a GPU that is not here, and what their machine code consists of.

No GPU and no driver is needed: Triton brings the assembler and the disassembler.
"""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction

BIN = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"

INSTRUCTION = re.compile(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?\w+\s+)?([A-Z][A-Z0-9_.]*)", re.MULTILINE)


@dataclass(frozen=True)
class Sass:
    """The machine code of one kernel.

    Attributes:
        name: of the kernel.
        registers: a thread.
        spills: local loads and stores: registers that did not suffice.
        instructions: a thread, each counted once (loops are not multiplied out).
        weights: entries of the tile a thread; instructions / weights is the issue cost of a weight.
        opcodes: how often each opcode occurs, without its modifiers.
        atomics: the atomic and reduction instructions, in full.
        vector_accesses: loads and stores of global memory of 16 bytes.
    """

    name: str
    registers: int
    spills: int
    instructions: int
    weights: int
    opcodes: Counter[str]
    atomics: tuple[str, ...]
    vector_accesses: int

    @property
    def instructions_per_weight(self) -> float:
        """Instructions a weight."""
        return self.instructions / self.weights


@contextmanager
def compiled_for(capability: int, cache: Path):
    """Calls of kernels inside compile for this compute capability and launch nothing.

    Args:
        capability: 80 for an A100, 90 for an H100.
        cache: an empty folder.

    Yields:
        The kernels, in the order of the calls.
    """
    # Not a device of this machine: what is compiled for one is remembered.
    gpu = SimpleNamespace(
        get_current_device=lambda: -capability,
        get_current_stream=lambda device: 0,
        get_current_target=lambda: GPUTarget("cuda", capability, 32),
    )
    kernels: list[Any] = []
    run: Callable[..., Any] = JITFunction.run

    def only_compile(self: Any, *args: Any, **options: Any) -> None:
        kernels.append(run(self, *args, **{**options, "warmup": True}))

    with (
        patch.dict("os.environ", {"TRITON_CACHE_DIR": str(cache)}),
        patch("triton.runtime.jit.driver", SimpleNamespace(active=gpu)),
        patch.object(JITFunction, "run", only_compile),
    ):
        yield kernels


def disassemble(kernel: Any, tile: int) -> Sass:
    """What a compiled kernel consists of.

    Args:
        kernel: from `compiled_for`.
        tile: weights of one program.
    """
    with NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        usage = _run("cuobjdump", "--dump-resource-usage", file.name)
        code = _run("cuobjdump", "-sass", file.name)
    found = INSTRUCTION.findall(code)
    opcodes = Counter(opcode.partition(".")[0] for opcode in found)
    opcodes.pop("NOP", None)
    (registers,) = re.findall(r"REG:(\d+)", usage)
    return Sass(
        name=kernel.name,
        registers=int(registers),
        spills=opcodes["STL"] + opcodes["LDL"],
        instructions=opcodes.total(),
        weights=tile // (32 * kernel.metadata.num_warps),
        opcodes=opcodes,
        atomics=tuple(op for op in found if op.startswith(("ATOM", "RED"))),
        vector_accesses=sum(op.startswith(("LDG.E.128", "STG.E.128")) for op in found),
    )


def _run(program: str, *arguments: str) -> str:
    return subprocess.run(
        [str(BIN / program), *arguments], capture_output=True, text=True, check=True
    ).stdout
