"""`d90 similarity`: cosine similarities between adapters."""

from __future__ import annotations

from typing import Annotated

import typer

from d90.cli.adapter_options import AdapterFiles
from d90.cli.output import rows_table
from d90.cli.terminal import Terminal


def similarity(
    files: AdapterFiles,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
) -> None:
    """Print the cosine similarities between the parameters of adapters.

    Example: d90 similarity mrpc.safetensors qqp.safetensors
    """
    from d90 import adapters
    from d90.adapters.arithmetic import cosine_similarities

    rows = cosine_similarities([adapters.load_adapter(file) for file in files])
    names = [file.name.removesuffix(".safetensors") for file in files]
    if csv:
        print(",".join(["file", *names]))
        for name, row in zip(names, rows, strict=True):
            print(",".join([name, *(f"{value:.6f}" for value in row)]))
        return
    table = rows_table("", *(f"({number})" for number in range(1, len(names) + 1)))
    for number, (name, row) in enumerate(zip(names, rows, strict=True), 1):
        table.add_row(f"({number}) {name}", *(f"{value:+.3f}" for value in row))
    Terminal().print(table)
