"""Part 0: the machine."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from benchmarks.gpu.part import Result, Setup
from benchmarks.timing import side_by_side, spread

PACKAGES = ("torch", "triton", "transformers", "accelerate", "peft", "safetensors", "numpy")


def describe(setup: Setup) -> Iterator[Result]:
    """Versions, compiler, native library, memory, and how fast memory is copied."""
    yield Result("versions", {"python": platform.python_version(), **_versions()})
    compiler = next((path for name in ("gcc", "clang") if (path := shutil.which(name))), None)
    yield Result("compiler", compiler or "none", compiler is not None, "gcc or clang")
    yield _native_library()
    yield Result("device", _device(setup))
    for name, count in (("1 GiB", 2**28), ("125M floats", 125_000_000)):
        yield _copy(setup, name, setup.size(count, count // 1000))


def _versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "missing"
    return found


def _native_library() -> Result:
    from d90.projections.kernels import native

    library = native.library()
    found = "none" if library is None else library.d90_isa().decode()
    return Result("native library", found, library is not None, "loaded")


def _device(setup: Setup) -> dict[str, Any]:
    if setup.is_rehearsal:
        return {"name": platform.processor() or platform.machine(), "interpreted": True}
    properties = torch.cuda.get_device_properties(0)
    free, total = torch.cuda.mem_get_info()
    return {
        "name": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "processors": properties.multi_processor_count,
        "free_gb": free / 1e9,
        "total_gb": total / 1e9,
        "cuda": torch.version.cuda,
    }


def _copy(setup: Setup, name: str, count: int) -> Result:
    source = torch.full((count,), 0.02, device=setup.device)
    target = torch.empty_like(source)
    times = side_by_side({"copy": lambda: target.copy_(source)}, setup.size(9, 2), calls=5)
    seconds = spread(times["copy"]).value
    figures = {"ms": 1e3 * seconds, "tb_per_s": 2 * 4 * count / seconds / 1e12}
    is_right = torch.equal(source, target)
    is_fast = setup.is_rehearsal or figures["tb_per_s"] > 2.5
    return Result(f"copy of {name}", figures, is_right and is_fast, "2.9-3.1 TB/s on an H100")
