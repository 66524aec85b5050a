"""The errors that a user can cause, and messages that several modules share."""

from __future__ import annotations

import errno
import os
import unicodedata
from collections.abc import Iterable
from difflib import get_close_matches


class D90Error(ValueError):
    """Bad input: one clear line that names what was received, what is expected and the remedy.

    The command line prints it without a traceback and exits with code 2.

    Args:
        message: it may quote what a file or a library says: it is made one printable line of at
            most `MAX_LINE` characters.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(single_line(message))


class StorageError(D90Error):
    """A store that cannot be opened, read or written, or a full disk."""


class StudyLockedError(StorageError):
    """A study, or another output, that another process is writing or has taken over."""


def unknown_name(kind: str, name: str, choices: Iterable[str]) -> D90Error:
    """The error for a name that is not in a table: it lists the choices and the nearest one.

    >>> print(unknown_name("projection", "fastfod", ["dense", "fastfood"]))
    unknown projection 'fastfod': did you mean 'fastfood'? Choices: dense, fastfood.
    """
    known = sorted(choices)
    nearest = get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean '{nearest[0]}'? " if nearest else ""
    return D90Error(f"unknown {kind} '{name}': {hint}Choices: {', '.join(known)}.")


MAX_LINE = 1000
"""Characters of the longest message that is printed."""

_UNPRINTABLE = {"Cc", "Cs", "Zl", "Zp"}
_DIRECTIONS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def printable(text: str) -> str:
    """The text with every character that a terminal would act on, or cannot encode, escaped.

    Those are control characters, overrides of the writing direction and lone surrogates; line ends
    are kept.

    >>> printable("red \\x1b[31m")
    'red \\\\x1b[31m'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_escaped, text))


def _escaped(character: str) -> str:
    category, direction = unicodedata.category(character), unicodedata.bidirectional(character)
    if character == "\n" or not (category in _UNPRINTABLE or direction in _DIRECTIONS):
        return character
    return character.encode("unicode_escape").decode()


def single_line(message: object, limit: int = MAX_LINE) -> str:
    """A message as one printable line of at most `limit` characters, cut in the middle.

    >>> single_line(ValueError("bad\\n  shape")), single_line("0123456789ab", limit=11)
    ('bad shape', '0123 ... ab')
    """
    line = printable(" ".join(str(message).split()))
    if len(line) <= limit:
        return line
    tail = (limit - 5) // 3
    return f"{line[: limit - 5 - tail]} ... {line[len(line) - tail :]}"


DISK_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT)
"""No space left, and no space left for this user."""


def disk_full(what: str, number: int) -> StorageError:
    """The error of a full disk: nothing is lost, and rerunning the command resumes.

    Args:
        what: the file that could not be written.
        number: one of `DISK_FULL_ERRNOS`.

    >>> print(disk_full("store 'd90.db'", errno.ENOSPC))
    store 'd90.db' cannot be written: No space left on device: make room and rerun the \
command.
    """
    return StorageError(
        f"{what} cannot be written: {os.strerror(number)}: make room and rerun the command."
    )
