"""`d90 inspect`: what is in a task file."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Annotated, Any

import typer

from d90.adapters import Adapter
from d90.cli.adapter_options import File, rows_table, say


def inspect(
    file: File,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Say what a task file holds: numbers, subspace, base model, task. Nothing is loaded or run.

    Example: d90 inspect mrpc.safetensors
    """
    from d90 import adapters

    found, size = adapters.load_adapter(file), file.stat().st_size
    if as_json:
        print(json.dumps(_facts(found, size), indent=2))
        return
    table = rows_table("", "")
    table.show_header = False
    table.columns[1].justify, table.columns[1].no_wrap = "left", False
    for name, value in _rows(found, size):
        table.add_row(name, value)
    say(table)


def _facts(file: Adapter, size: int) -> dict[str, Any]:
    return {
        "bytes": size,
        "code": file.codec,
        "bits_a_number": file.bits / file.d,
        **file.subspace.to_dict(),
        "D": file.base.D,
        "m": file.m,
        "head_seed": file.base.head_seed,
        "base": asdict(file.base),
        **asdict(file.task),
        "reached": None if math.isnan(file.task.metric_value) else file.task.metric_value,
        "numbers": [float(number) for number in file.parameters],
    }


def _rows(file: Adapter, size: int) -> list[tuple[str, str]]:
    space, base, use = file.subspace, file.base, file.task
    of_lam = f", {file.m} of them lam" if file.m else ""
    largest = float(abs(file.z).max(initial=0))
    return [
        ("file", f"{size:,} bytes, {file.codec}, {file.bits / file.d:.2f} bits a number"),
        ("numbers", f"{file.d:,}{of_lam}; the largest of z is {largest:.3g}"),
        ("weights", f"D = {base.D:,}"),
        (
            "subspace",
            f"{space.method.upper()}, {space.projection}, scale {space.scale}, "
            f"groups {space.groups}",
        ),
        ("seeds", f"projection {space.seed}, head {base.head_seed} (philox-v1)"),
        ("base", " at ".join(filter(None, (base.name, base.revision))) + f" ({base.dtype})"),
        ("fingerprint", base.fingerprint),
        ("task", f"{use.name}: {', '.join(use.text_columns)}; {use.max_length} tokens at most"),
        ("classes", ", ".join(use.labels)),
        (
            "reached",
            "unknown" if math.isnan(use.metric_value) else f"{use.metric} {use.metric_value:.4f}",
        ),
    ]
