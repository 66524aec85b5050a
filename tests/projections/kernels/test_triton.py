"""The Triton kernels without a GPU: in the interpreter, and through the compiler."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from d90.projections.kernels.base import RowBlock

triton = pytest.importorskip("triton", reason="triton is not installed")

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


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """What calls of kernels compile, for a GPU that is not here; nothing is launched."""
    from triton.backends.compiler import GPUTarget
    from triton.runtime.jit import JITFunction

    # Not a device of this machine: what is compiled for one is remembered.
    gpu = SimpleNamespace(
        get_current_device=lambda: -1,
        get_current_stream=lambda device: 0,
        get_current_target=lambda: GPUTarget("cuda", 80, 32),
    )
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr("triton.runtime.jit.driver", SimpleNamespace(active=gpu))
    made, run = [], JITFunction.run

    def only_compile(self: Any, *args: Any, **options: Any) -> None:
        made.append(run(self, *args, **{**options, "warmup": True}))

    monkeypatch.setattr(JITFunction, "run", only_compile)
    monkeypatch.setattr("d90.projections.kernels.triton.fastfood._TILE", 512)
    return made


@pytest.mark.parametrize(
    ("name", "d", "kernels"),
    [
        ("onehot", 5, ["apply_tiles", "largest_of_tiles", "adjoint_tiles"]),
        ("fastfood", 5, ["apply_tiles", "adjoint_tiles"]),  # permutations number by number
        ("fastfood", 300, ["apply_tiles", "adjoint_tiles"]),  # and by rows
    ],
)
def test_they_compile(name: str, d: int, kernels: list[str], compiled: list[Any]) -> None:
    """To machine code of compute capability 8.0, by the assembler that comes with triton."""
    from d90.projections.kernels import triton as ours

    long, short = torch.zeros(1000).bfloat16(), torch.zeros(d)
    ours.apply(name, d, 5000, 2**64 - 1, short, [RowBlock(100, long, long)])
    ours.adjoint(name, d, 5000, 2**64 - 1, short, [RowBlock(100, long, None)])
    assert [kernel.name for kernel in compiled] == kernels
    assert all(kernel.asm["cubin"] for kernel in compiled)
