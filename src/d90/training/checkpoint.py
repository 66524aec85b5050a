"""The checkpoint of a training run: one file of tensors and JSON, nothing executable.

`accelerator.save_state` and `torch.save` write pickles, so neither is used.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from d90.errors import D90Error, single_line
from d90.utils.files import atomic_path
from d90.utils.reading import check_keys, parse_json


def save_checkpoint(file: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write a checkpoint atomically: if the process is killed, the previous one stays intact.

    Args:
        file: its folder is created.
        tensors: restored bit for bit.
        state: JSON values. Floats are restored bit for bit too.

    Raises:
        D90Error: it cannot be written, for example on a full disk; the previous one stays intact.
    """
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(file) as partial:
            save_file(contiguous, partial, metadata={"state": json.dumps(state)})
    except (OSError, SafetensorError) as error:
        raise D90Error(
            f"checkpoint '{file}' cannot be written ({single_line(error)}): give a folder that can."
        ) from error


def load_checkpoint(
    file: Path, *, identity: Mapping[str, Any]
) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The tensors and the state of a checkpoint, or None if there is none.

    Args:
        file: the checkpoint.
        identity: must equal `identity` in the state, which identifies the run.

    Raises:
        D90Error: the file is damaged or belongs to another run.
    """
    if not file.exists():
        return None
    try:
        with safe_open(file, framework="pt") as opened:
            state = parse_json((opened.metadata() or {})["state"], "state")
            saved = check_keys(state["identity"], {}, [], "identity")
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise D90Error(f"checkpoint '{file}' is damaged ({error}): remove it.") from error
    for key, current in identity.items():
        if saved.get(key) != current:
            raise D90Error(
                f"checkpoint '{file}' is of another run ({key} was {saved.get(key)} and is now "
                f"{current}): remove it or choose another folder."
            )
    return tensors, state
