"""`d90 combine`: the mean or the sum of adapters."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from d90.cli.adapter_options import AdapterFiles
from d90.cli.output import print_line
from d90.utils.files import check_output_file


def combine(
    files: AdapterFiles,
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")],
    reduction: Annotated[str, typer.Option(help="mean or sum.")] = "mean",
) -> None:
    """Write the mean or the sum of adapters with the same base model, subspace and classes.

    Example: d90 combine seed1.safetensors seed2.safetensors -o mean.safetensors
    """
    from d90 import adapters
    from d90.adapters import arithmetic

    check_output_file(output)
    combined = arithmetic.combine([adapters.load_adapter(file) for file in files], reduction)
    size = combined.save(output)
    print_line(f"{output}: the {reduction} of {len(files)} adapters, {size:,} bytes")
