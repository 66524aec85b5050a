"""A task file and its base as one plain checkpoint of transformers."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from tempfile import mkdtemp

from d90.adapters.model import load
from d90.errors import D90Error
from d90.models import loading


def merge(file: str | Path, folder: str | Path, *, base: str | None = None) -> None:
    """Write the model of a task file to a new folder: weights, configuration and tokenizer.

    The folder is there whole or not at all.

    Raises:
        D90Error: as `d90.load`; a folder that has something in it or cannot be written.
    """
    target = Path(folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise D90Error(f"'{target}' is there already: give a new folder.")
    model = load(base, file)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise D90Error(f"'{target}' cannot be written: {error.strerror}.") from error
    try:
        with loading.silence_transformers():
            model.save_pretrained(beside)
        model.tokenizer.save_pretrained(beside)
        beside.chmod(0o755)  # mkdtemp's is for the owner alone.
        if target.exists():
            target.rmdir()
        os.replace(beside, target)
    except OSError as error:
        raise D90Error(f"'{target}' cannot be written: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
