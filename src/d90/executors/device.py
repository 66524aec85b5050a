"""The GPUs of this machine, as the executors see them."""

from __future__ import annotations

import torch

from d90.errors import D90Error


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
