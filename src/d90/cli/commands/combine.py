"""`d90 combine`: the mean or the sum of task files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from d90.cli.adapter_options import FilesArgument, say


def combine(
    files: FilesArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")],
    reduction: Annotated[str, typer.Option(help="mean or sum.")] = "mean",
) -> None:
    """The mean or the sum of task files that share a projection, a base and their classes.

    Example: d90 combine seed1.safetensors seed2.safetensors -o mean.safetensors
    """
    from d90 import adapters
    from d90.adapters.arithmetic import combine as combined

    found = combined([adapters.load_adapter(file) for file in files], reduction)
    size = found.save(output)
    say(f"{output}: the {reduction} of {len(files)} files, {size:,} bytes")
