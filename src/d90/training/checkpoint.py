"""One file that a training run continues from: tensors and JSON, nothing that can execute.

`accelerator.save_state` and `torch.save` write pickles, so neither is used here.
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


def save_checkpoint(file: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write a checkpoint atomically: a process killed meanwhile leaves the earlier one intact.

    Args:
        file: where to; its folder is made.
        tensors: what must be the same to the bit.
        state: what JSON can hold. Python's floats come back to the bit too.

    Raises:
        D90Error: it cannot be written, on a full disk for example; the earlier one is whole.
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
    """The tensors and the state of a checkpoint, or None where there is none.

    Args:
        file: where from.
        identity: must equal the state's own `identity`, what was being run.

    Raises:
        D90Error: a damaged file, or one of another run.
    """
    if not file.exists():
        return None
    try:
        with safe_open(file, framework="pt") as opened:
            state = json.loads(opened.metadata()["state"])
            then = state["identity"]
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise D90Error(f"checkpoint '{file}' is damaged ({error}): remove it.") from error
    for key, now in identity.items():
        if then.get(key) != now:
            raise D90Error(
                f"checkpoint '{file}' is of another run ({key} was {then.get(key)} and is now "
                f"{now}): remove it or choose another folder."
            )
    return tensors, state
