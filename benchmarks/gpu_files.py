"""The folder `.gpu/`: the files that the GPU check and the GPU study need on a bare machine.

`scripts/prepare_gpu.sh` builds the native library into it and runs this module for the rest. What
is already there is kept: delete it to make it again.
"""

from __future__ import annotations

import argparse
import gzip
import json
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from safetensors.torch import load_file, save_file

from benchmarks.machine import ROOT
from d90.errors import D90Error
from d90.models.packaged import packaged_path
from d90.tasks import Split, Task, load_task
from d90.utils.files import atomic_path

FOLDER = ROOT / ".gpu"
MODEL = "minilm-l6"
TASKS = ("mrpc", "sst2")
LIBRARY = "libd90.so"

TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")
LIMIT = 58 * 2**20
"""Bytes that the folder may have: it has to travel with a checkout."""


def write_model(source: Path, target: Path) -> None:
    """Copy a checkpoint and its tokenizer, the weights as float16.

    Raises:
        D90Error: a weight is too large for float16.
    """
    tensors = load_file(source / "model.safetensors")
    for name, tensor in tensors.items():
        if tensor.is_floating_point():
            tensors[name] = tensor.half()
            if not tensors[name].isfinite().all():
                raise D90Error(f"{source}: {name} has values too large for float16.")
    with atomic_path(target) as folder:
        folder.mkdir()
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        for name in ("config.json", *TOKENIZER):
            if (source / name).exists():
                shutil.copyfile(source / name, folder / name)


def write_task(task: Task, target: Path) -> None:
    """Write a task as a folder of compressed JSON lines, the labels as class indices."""
    with atomic_path(target) as folder:
        folder.mkdir()
        for name, split in {"train": task.train, **task.evaluation}.items():
            lines = "".join(f"{line}\n" for line in _lines(task.text_columns, split))
            # Without the time, the same data gives the same bytes.
            (folder / f"{name}.jsonl.gz").write_bytes(gzip.compress(lines.encode(), mtime=0))


def _lines(columns: Iterable[str], split: Split) -> Iterable[str]:
    for texts, label in zip(split.texts, split.labels, strict=True):
        row = {**dict(zip(columns, texts, strict=True)), "label": label}
        yield json.dumps(row, ensure_ascii=False)


def check_size(folder: Path) -> list[tuple[str, int]]:
    """(name, bytes) of everything in the folder.

    Raises:
        D90Error: together they are larger than `LIMIT`.
    """
    sizes = [
        (path.name, sum(file.stat().st_size for file in [path, *path.rglob("*")] if file.is_file()))
        for path in sorted(folder.iterdir())
    ]
    total = sum(size for _, size in sizes)
    if total > LIMIT:
        largest = max(sizes, key=lambda item: item[1])
        raise D90Error(
            f"{folder} has {total / 2**20:.1f} MiB, of which {largest[0]} is "
            f"{largest[1] / 2**20:.1f}: at most {LIMIT / 2**20:.0f} MiB may travel."
        )
    return sizes


def prepare(folder: Path, data: Path | None) -> None:
    """Write what is missing in the folder, and print what is in it.

    Args:
        folder: exists, with the native library.
        data: a folder with a folder for each of `TASKS`; None for the hub and its cache.

    Raises:
        D90Error: the model's package is not installed, a task is neither in `data` nor on the hub,
            or the folder becomes too large.
    """
    if not (folder / MODEL).exists():
        write_model(packaged_path(MODEL), folder / MODEL)
    for name in TASKS:
        if not (folder / name).exists():
            write_task(load_task(name if data is None else data / name), folder / name)
    sizes = check_size(folder)
    for name, size in [*sizes, ("in all", sum(size for _, size in sizes))]:
        print(f"{name:<12} {size / 2**20:6.2f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with mrpc/ and sst2/ (the hub)")
    try:
        prepare(FOLDER, parser.parse_args().data)
    except D90Error as error:
        print(f"prepare_gpu: {error}", file=sys.stderr)
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
