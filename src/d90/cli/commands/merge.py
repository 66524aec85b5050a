"""`d90 merge`: a plain checkpoint with the weights that a task file means."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from d90.cli.adapter_options import BaseModel, File, say


def merge(
    file: File,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The folder to make.", metavar="DIR")
    ],
    base: BaseModel = None,
) -> None:
    """Write a plain Hugging Face checkpoint: it loads with from_pretrained, without d90.

    Example: d90 merge mrpc.safetensors -o mrpc-model
    """
    from d90.adapters.merge import merge as merged

    merged(file, output, base=base)
    say(f"{output}: load it with AutoModelForSequenceClassification.from_pretrained")
