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
@pytest.mark.parametrize("name", ["interpreted_triton.py", "interpreted_long_blocks.py"])
def test_in_the_interpreter(name: str) -> None:
    """It must be asked for before triton is imported: a process of its own."""
    file = Path(__file__).with_name(name)
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
KERNELS = {
    "onehot": ("apply_tiles", "largest_of_tiles", "adjoint_tiles", "to_gradient"),
    "fastfood": ("apply_tiles", "adjoint_tiles"),
    "long fastfood": (
        *("spread", "high_levels", "gather", "emit_tiles"),
        *("collect_tiles", "scatter", "high_levels", "add_tiles"),
    ),
}


def compile_kernels(
    name: str, d: int, dtype: torch.dtype, capability: int, cache: Path
) -> list[Sass]:
    """The machine code of `apply` and `adjoint`, with the tiles that a GPU would run."""
    from d90.projections.kernels import triton as ours
    from d90.projections.kernels.triton import fastfood, long_blocks, onehot

    long, short, D = torch.zeros(1000, dtype=dtype), torch.zeros(d), max(d, 5000)
    with compiled_for(capability, cache) as kernels:
        ours.apply(name, d, D, 2**64 - 1, short, [RowBlock(100, long, long)])
        ours.adjoint(name, d, D, 2**64 - 1, short, [RowBlock(100, long, None)])
    if name == "onehot":
        tile = onehot._TILE
    else:
        tile = 1 << long_blocks._LOW if d > fastfood.LARGEST else fastfood._shape(d)[1]
    return [disassemble(kernel, tile) for kernel in kernels]


@pytest.mark.parametrize(
    ("capability", "name", "d", "dtype"),
    [
        (90, "onehot", 1000, torch.float32),
        (90, "fastfood", 5, torch.float32),  # permutations entry by entry
        (90, "fastfood", 200, torch.float32),  # and by rows
        (90, "fastfood", 1000, torch.float16),
        (90, "fastfood", 4000, torch.bfloat16),
        (90, "fastfood", 2**15, torch.float32),  # high levels in tiles of long rows
        (90, "fastfood", 2**21, torch.float16),  # and of short ones
        (80, "onehot", 1000, torch.float16),
        (80, "fastfood", 1000, torch.bfloat16),
        (80, "fastfood", 2**20, torch.bfloat16),
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
    group = "long fastfood" if name == "fastfood" and d > 2**14 else name
    assert tuple(kernel.name for kernel in kernels) == KERNELS[group]
    for kernel in kernels:
        assert kernel.opcodes["FFMA"] == kernel.opcodes["HMMA"] == 0
        for atomic in kernel.atomics:
            assert re.match(r"RED(G|UX)?\.|ATOM", atomic) and not re.search(r"F\d\d|FTZ", atomic)
        # Registers that spill inside the loop over tiles.
        assert kernel.spills <= (8 if kernel.name == "adjoint_tiles" else 0)
        if kernel.name == "to_gradient":
            continue
        bar, registers = BARS[group, kernel.name]
        assert kernel.instructions_per_weight <= (300 if d < 129 else bar), kernel
        assert kernel.registers <= (255 if d < 129 else registers), kernel
        assert kernel.vector_accesses, "a whole aligned tile is read or written entry by entry"


BARS = {
    ("onehot", "apply_tiles"): (46, 250),
    ("onehot", "largest_of_tiles"): (16, 140),
    ("onehot", "adjoint_tiles"): (52, 180),
    ("fastfood", "apply_tiles"): (190, 120),
    ("fastfood", "adjoint_tiles"): (195, 220),
    ("long fastfood", "spread"): (56, 48),
    ("long fastfood", "high_levels"): (28, 56),
    ("long fastfood", "gather"): (132, 80),
    ("long fastfood", "emit_tiles"): (58, 140),
    ("long fastfood", "collect_tiles"): (58, 100),
    ("long fastfood", "scatter"): (136, 115),
    ("long fastfood", "add_tiles"): (46, 90),
}
"""Instructions a weight and registers a thread, by projection and kernel."""


def test_tables_of_tensors_are_cached_by_all_that_they_hold() -> None:
    from d90.projections.kernels.triton.segments import launches

    def table(*rows: RowBlock, D: int = 100) -> torch.Tensor:
        (launch,) = launches(rows, D, 64, torch.device("cpu"))
        return launch.table

    x, y = torch.zeros(10), torch.zeros(10)
    first = table(RowBlock(5, x, y), RowBlock(20, y, x))
    assert table(RowBlock(5, x, y), RowBlock(20, y, x)) is first
    assert first[0].tolist() == [5, 15, x.data_ptr(), y.data_ptr(), 0x3F800000]
    others = [
        table(RowBlock(6, x, y), RowBlock(20, y, x)),
        table(RowBlock(5, x, y, 2.0), RowBlock(20, y, x)),
        table(RowBlock(5, y, y), RowBlock(20, y, x)),
        table(RowBlock(5, x, x), RowBlock(20, y, x)),
        table(RowBlock(5, x[:9], y[:9]), RowBlock(20, y, x)),
        table(RowBlock(5, x, y)),
    ]
    assert all(not torch.equal(first, other) for other in others)
    for _ in range(2):
        with pytest.raises(ValueError, match="out of order or out of range"):
            table(RowBlock(5, x, y), RowBlock(20, y, x), D=29)


def test_one_compilation_serves_groups_of_few_and_of_many_tensors(tmp_path: Path) -> None:
    from d90.projections.kernels import triton as ours

    short, tensor = torch.zeros(5), torch.zeros(10)
    with compiled_for(90, tmp_path) as kernels:
        for count in (1, 3, 30):
            rows = [RowBlock(10 * i, tensor, tensor) for i in range(count)]
            ours.apply("onehot", 5, 5000, 0, short, rows)
    assert len({kernel.hash for kernel in kernels}) == 1
