"""`d90 inspect`: the contents of an adapter."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any

from d90.adapters import Adapter, TaskInfo
from d90.cli.adapter_options import AdapterFile, AsJson
from d90.cli.output import rows_table
from d90.cli.terminal import Terminal


def inspect(file: AdapterFile, as_json: AsJson = False) -> None:
    """Show the contents of an adapter: parameters, subspace, base model and task.

    No model is loaded.

    Example: d90 inspect mrpc.safetensors
    """
    from d90 import adapters

    adapter, size = adapters.load_adapter(file), file.stat().st_size
    if as_json:
        print(json.dumps(_to_dict(adapter, size), indent=2))
        return
    table = rows_table("", "")
    table.show_header = False
    table.columns[1].justify, table.columns[1].no_wrap = "left", False
    for name, value in _rows(adapter, size):
        table.add_row(name, value)
    Terminal().print(table)


def _to_dict(adapter: Adapter, size: int) -> dict[str, Any]:
    task = asdict(adapter.task)
    if math.isnan(adapter.task.metric_value):
        task["metric_value"] = None
    return {
        "bytes": size,
        "codec": adapter.codec,
        "bits_per_parameter": adapter.bits / adapter.d,
        **adapter.subspace.to_dict(),
        "D": adapter.base.D,
        "m": adapter.m,
        "head_seed": adapter.base.head_seed,
        "base": asdict(adapter.base),
        **task,
        "parameters": [float(parameter) for parameter in adapter.parameters],
    }


def _kind_row(task: TaskInfo) -> tuple[str, str]:
    if task.labels:
        return "classes", ", ".join(task.labels)
    return "kind", ", ".join([task.kind, *(f"{k} {value}" for k, value in task.options.items())])


def _rows(adapter: Adapter, size: int) -> list[tuple[str, str]]:
    space, base, task = adapter.subspace, adapter.base, adapter.task
    scales = f", {adapter.m} of them scales" if adapter.m else ""
    largest = float(abs(adapter.z).max(initial=0))
    is_known = not math.isnan(task.metric_value)
    return [
        (
            "file",
            f"{size:,} bytes, {adapter.codec}, {adapter.bits / adapter.d:.2f} bits a parameter",
        ),
        ("parameters", f"d = {adapter.d:,} of D = {base.D:,}{scales}; max |z| = {largest:.3g}"),
        (
            "subspace",
            f"{space.method.upper()}, {space.projection}, scale {space.scale}, "
            f"groups {space.groups}",
        ),
        ("seeds", f"projection {space.seed}, head {base.head_seed} (philox-v1)"),
        ("base model", "@".join(filter(None, (base.name, base.revision))) + f" ({base.dtype})"),
        ("fingerprint", base.fingerprint),
        (
            "task",
            f"{task.name}: {', '.join(task.text_columns) or 'plain text'}; at most "
            f"{task.max_length} tokens",
        ),
        _kind_row(task),
        ("evaluation", f"{task.metric} {task.metric_value:.4f}" if is_known else "unknown"),
    ]
