"""The Triton kernels without a GPU: in the interpreter, and through the compiler."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from d90.projections.kernels.base import RowBlock

triton = pytest.importorskip("triton", reason="triton is not installed")

from tests.helpers.sass import Sass, compiled_for, disassemble  # noqa: E402

VERSION = tuple(map(int, triton.__version__.split(".")[:2]))


@pytest.mark.skipif(VERSION < (3, 7), reason="older interpreters do not run with numpy 2.4")
def test_in_the_interpreter() -> None:
    """It must be asked for before triton is imported: a process of its own."""
    file = Path(__file__).with_name("interpreted_triton.py")
    options = ["-q", "--noconftest", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(file)],
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-10_000:] + done.stderr[-2000:]


# Kernel by kernel, in the order of the calls.
ONEHOT = ("apply_tiles", "largest_of_tiles", "adjoint_tiles")
FASTFOOD = ("apply_tiles", "adjoint_tiles")


def compile_kernels(
    name: str, d: int, dtype: torch.dtype, capability: int, cache: Path
) -> list[Sass]:
    """The machine code of `apply` and `adjoint`, with the tiles that a GPU would run."""
    from d90.projections.kernels import triton as ours
    from d90.projections.kernels.triton import fastfood, onehot

    long, short = torch.zeros(1000, dtype=dtype), torch.zeros(d)
    with compiled_for(capability, cache) as kernels:
        ours.apply(name, d, 5000, 2**64 - 1, short, [RowBlock(100, long, long)])
        ours.adjoint(name, d, 5000, 2**64 - 1, short, [RowBlock(100, long, None)])
    tile = onehot._TILE if name == "onehot" else fastfood._shape(d)[1]
    return [disassemble(kernel, tile) for kernel in kernels]


@pytest.mark.parametrize(
    ("capability", "name", "d", "dtype"),
    [
        (90, "onehot", 1000, torch.float32),
        (90, "fastfood", 5, torch.float32),  # permutations entry by entry
        (90, "fastfood", 200, torch.float32),  # and by rows
        (90, "fastfood", 1000, torch.float16),
        (80, "onehot", 1000, torch.float16),
        (80, "fastfood", 1000, torch.bfloat16),
    ],
)
def test_machine_code(
    capability: int, name: str, d: int, dtype: torch.dtype, tmp_path: Path
) -> None:
    """What bits and speed hang on, read off the code of the real tiles.

    A fused multiply-add rounds once where the reference rounds twice, and a tensor core rounds
    its inputs: neither may occur. Atomics are of whole numbers, whose sum has no order. The bars
    are a tenth above what Triton 3.9 gives.
    """
    kernels = compile_kernels(name, d, dtype, capability, tmp_path)
    assert tuple(kernel.name for kernel in kernels) == (ONEHOT if name == "onehot" else FASTFOOD)
    for kernel in kernels:
        assert kernel.opcodes["FFMA"] == kernel.opcodes["HMMA"] == 0
        for atomic in kernel.atomics:
            assert re.match(r"RED(G|UX)?\.|ATOM", atomic) and not re.search(r"F\d\d|FTZ", atomic)
        assert kernel.spills <= 8, "registers spill inside the loop over tiles"
        bar = BARS[name, kernel.name]
        assert kernel.instructions_per_weight <= (300 if d < 129 else bar), kernel
        assert kernel.vector_accesses, "a whole aligned tile is read or written entry by entry"


BARS = {
    ("onehot", "apply_tiles"): 46,
    ("onehot", "largest_of_tiles"): 16,
    ("onehot", "adjoint_tiles"): 52,
    ("fastfood", "apply_tiles"): 190,
    ("fastfood", "adjoint_tiles"): 195,
}
"""Instructions a weight, by projection and kernel."""


def test_one_compilation_serves_groups_of_few_and_of_many_tensors(tmp_path: Path) -> None:
    from d90.projections.kernels import triton as ours

    short, tensor = torch.zeros(5), torch.zeros(10)
    with compiled_for(90, tmp_path) as kernels:
        for count in (1, 3, 30):
            rows = [RowBlock(10 * i, tensor, tensor) for i in range(count)]
            ours.apply("onehot", 5, 5000, 0, short, rows)
    assert len({kernel.hash for kernel in kernels}) == 1
