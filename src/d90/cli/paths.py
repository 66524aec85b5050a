"""Paths on the command line: checked where they are parsed, for every option of every command."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args, get_type_hints

import typer

from d90.errors import D90Error
from d90.utils.files import as_path


def check_paths(command: Callable[..., None]) -> Callable[..., None]:
    """The command, with `as_path` as the parser of each option and argument that is a path."""
    hints = get_type_hints(command, include_extras=True)
    for name in inspect.signature(command).parameters:
        kind, *extras = get_args(hints[name])
        if extras and Path in (kind, *get_args(kind)):
            (info,) = extras
            info.parser, info.metavar = _path, info.metavar or "PATH"
    # As text, the annotations would be evaluated again, without the parsers.
    command.__annotations__ = hints
    return command


def _path(text: Any) -> Path:
    try:
        return as_path(text, "path")
    except D90Error as error:
        raise typer.BadParameter(str(error)) from error
