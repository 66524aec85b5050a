"""`d90 merge`: a plain checkpoint of the base model with the adapter merged in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from d90.cli.adapter_options import AdapterFile, BaseModel
from d90.cli.output import print_line


def merge(
    file: AdapterFile,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder to create.", metavar="DIR")
    ],
    base: BaseModel = None,
) -> None:
    """Merge an adapter into its base model and write a plain Hugging Face checkpoint.

    The checkpoint loads with from_pretrained, without d90.

    Example: d90 merge mrpc.safetensors -o mrpc-model
    """
    from d90.adapters import merge as merging

    auto = merging.merge(file, output, base=base)
    print_line(f"{output}: load it with {auto}.from_pretrained")
