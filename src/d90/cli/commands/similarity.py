"""`d90 similarity`: the cosine between task files."""

from __future__ import annotations

from typing import Annotated

import typer

from d90.cli.adapter_options import FilesArgument, rows_table, say


def similarity(
    files: FilesArgument,
    csv: Annotated[bool, typer.Option("--csv", help="Print it as CSV.")] = False,
) -> None:
    """The cosine between the numbers of task files that share a projection and a base.

    Example: d90 similarity mrpc.safetensors qqp.safetensors
    """
    from d90 import adapters
    from d90.adapters.arithmetic import cosine_similarities

    found = cosine_similarities([adapters.load_adapter(file) for file in files])
    names = [file.name.removesuffix(".safetensors") for file in files]
    if csv:
        print(",".join(["file", *names]))
        for name, row in zip(names, found, strict=True):
            print(",".join([name, *(f"{value:.6f}" for value in row)]))
        return
    table = rows_table("", *(f"({number})" for number in range(1, len(names) + 1)))
    for number, (name, row) in enumerate(zip(names, found, strict=True), 1):
        table.add_row(f"({number}) {name}", *(f"{value:+.3f}" for value in row))
    say(table)
