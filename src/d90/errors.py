"""The one error that a user can cause, and its forms that several places share."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from difflib import get_close_matches


class D90Error(ValueError):
    """Bad input: one clear line that names what was received, what is expected and the remedy.

    The command line prints it without a traceback and exits with code 2.
    """


def unknown_name(kind: str, name: str, choices: Iterable[str]) -> D90Error:
    """The error for a name that is not in a table: it lists the choices and the nearest one.

    >>> print(unknown_name("projection", "fastfod", ["dense", "fastfood"]))
    unknown projection 'fastfod': did you mean 'fastfood'? Choices: dense, fastfood.
    """
    known = sorted(choices)
    nearest = get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean '{nearest[0]}'? " if nearest else ""
    return D90Error(f"unknown {kind} '{name}': {hint}Choices: {', '.join(known)}.")


def single_line(what: object) -> str:
    """Its text without line breaks, as an error of another library may have them.

    >>> single_line(ValueError("bad\\n  shape"))
    'bad shape'
    """
    return " ".join(str(what).split())


DISK_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT)
"""No space left, and no space left for this user."""


def disk_full(what: str, number: int) -> D90Error:
    """The error of a full disk: nothing is lost, and the same command goes on.

    Args:
        what: the file that could not be written.
        number: one of `FULL`.

    >>> print(disk_full("store 'd90.db'", errno.ENOSPC))
    store 'd90.db' cannot be written: No space left on device: make room and give the same command \
again.
    """
    return D90Error(
        f"{what} cannot be written: {os.strerror(number)}: make room and give the same command "
        "again."
    )
