"""The GPUs of this machine, as the executors see them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

import torch

from d90.errors import D90Error

VISIBLE = "CUDA_VISIBLE_DEVICES"

_environment = Lock()


class DeviceLostError(D90Error):
    """This process can no longer use its GPU; a new process can.

    Args:
        reason: the error of the trial that lost it.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return (
            f"{self.reason}: after this error the process cannot use its GPU any more. Rerun the "
            "command to resume; with the executor 'processes', a trial that causes it again fails "
            "and the others continue."
        )


def is_lost(device: torch.device) -> bool:
    """Whether this process can no longer use the device.

    After an illegal access, a failed assertion in a kernel or a hardware error, every later call of
    CUDA in the process returns that error. After other errors, such as out of memory, it does not.
    """
    if device.type != "cuda":
        return False
    try:
        torch.cuda.synchronize(device)
    except RuntimeError:
        return True
    return False


def visible_gpus() -> list[str]:
    """The GPUs that this process sees, as CUDA_VISIBLE_DEVICES names them: by index or UUID."""
    count = torch.cuda.device_count()
    names = os.environ.get(VISIBLE)
    if names is None:
        return [str(index) for index in range(count)]
    return [name.strip() for name in names.split(",")][:count]


@contextmanager
def only_gpu(name: str | None) -> Iterator[None]:
    """Let processes that are started inside see one GPU only; None leaves them all.

    The variable must be there when such a process starts, because its imports may call CUDA. This
    process has read it already.
    """
    if name is None:
        yield
        return
    with _environment:
        before = os.environ.get(VISIBLE)
        os.environ[VISIBLE] = name
        try:
            yield
        finally:
            if before is None:
                del os.environ[VISIBLE]
            else:
                os.environ[VISIBLE] = before
