"""The Triton kernels without a GPU: in the interpreter, and through the compiler."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

triton = pytest.importorskip("triton", reason="triton is not installed")

POINTERS = {
    **dict.fromkeys(("z", "partial"), "*fp32"),
    **dict.fromkeys(("segments", "orders", "inverses", "total"), "*i64"),
    **dict.fromkeys(("lines", "largest", "out"), "*i32"),
}
SHORT, LONG = {"BITS": 4}, {"BITS": 8}
KERNELS: list[tuple[str, str, dict[str, int]]] = [
    ("onehot", "apply_tiles", {}),
    ("onehot", "largest_of_tiles", {}),
    ("onehot", "adjoint_tiles", {}),
    ("fastfood", "apply_tiles", SHORT),
    ("fastfood", "adjoint_tiles", SHORT),
    ("fastfood", "apply_tiles", LONG),
    ("fastfood", "adjoint_tiles", LONG),
]


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


@pytest.mark.parametrize(("module", "kernel", "constants"), KERNELS)
def test_it_compiles(
    module: str,
    kernel: str,
    constants: dict[str, int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To machine code of compute capability 8.0, by the assembler that comes with triton."""
    from triton import language as tl
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from d90.kernels.triton import fastfood, onehot

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    function: Any = getattr({"fastfood": fastfood, "onehot": onehot}[module], kernel)
    values = {"TYPE": tl.bfloat16, "COUNT": 2, "TILE": 256, **constants}
    signature = {
        name: POINTERS.get(name) or ("constexpr" if name in values else _type(parameter))
        for name, parameter in inspect.signature(function.fn).parameters.items()
    }
    source, options = ASTSource(function, signature, values), {"enable_fp_fusion": False}
    made = triton.compile(source, target=GPUTarget("cuda", 80, 32), options=options)
    assert made.asm["cubin"]


def _type(parameter: inspect.Parameter) -> str:
    """Triton's name of a scalar, from an annotation such as `tl.int32`."""
    kinds = {"int": "i", "uint": "u", "float": "fp"}
    kind = parameter.annotation.removeprefix("tl.")
    return kinds[kind.rstrip("0123456789")] + kind.lstrip("abcdefghijklmnopqrstuvwxyz")
