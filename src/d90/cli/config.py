"""Options from a TOML file: the same names as on the command line, which wins."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, get_args, get_type_hints

import typer

from d90.errors import D90Error, unknown_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Kind = tuple[tuple[type, ...], str]
"""Types of TOML, and what to call their values."""

LISTS: dict[str, Kind] = {
    "dims": ((int, float), "numbers"),
    "learning_rates": ((int, float), "numbers"),
    "baseline_learning_rates": ((int, float), "numbers"),
    "seeds": ((int,), "whole numbers"),
    "text_columns": ((str,), "strings"),
}
"""Options that are lists, which the command line writes with commas, and what they are lists of."""

TYPES: dict[type, Kind] = {
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    bool: ((bool,), "true or false"),
    Path: ((str,), "a string"),
    str: ((str,), "a string"),
}
"""For the type of any other option, what it takes."""


def from_file(context: typer.Context, file: Path | None) -> Path | None:
    """Make the file's values the defaults of this command's options and arguments.

    Raises:
        D90Error: a file that cannot be read or is no TOML; a key that is no option; a value of
            the wrong type.
    """
    if file is None or context.resilient_parsing:
        return file
    options = get_type_hints(context.command.callback)
    del options["config"], options["return"]
    defaults: dict[str, Any] = {}
    for key, value in _read(file).items():
        name = key.replace("-", "_")
        if name not in options:
            raise unknown_name(
                f"option in '{file}'", key, [choice.replace("_", "-") for choice in options]
            )
        defaults[name] = _value(f"'{file}': {key}", value, name, options[name])
    context.default_map = {**(context.default_map or {}), **defaults}
    return file


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise D90Error(f"--config '{file}' is not UTF-8 text ({error.reason}).") from error
    except OSError as error:
        raise D90Error(f"--config '{file}' cannot be read: {error.strerror}.") from error
    except tomllib.TOMLDecodeError as error:
        raise D90Error(f"--config '{file}' is not TOML: {error}.") from error


def _value(where: str, value: Any, name: str, annotation: Any) -> Any:
    """The value as the command line would have it."""
    if name in LISTS:
        types, what = LISTS[name]
        items = value if isinstance(value, list) else [value]
        # A string is written as on the command line, commas and all.
        if not isinstance(value, str) and not all(_is_a(item, types) for item in items):
            raise D90Error(f"{where} is {value!r}: expected a list of {what}.")
        return ",".join(map(str, items))
    kinds = {*get_args(annotation)} - {type(None)} or {annotation}
    types, what = TYPES[kinds.pop()]
    if not _is_a(value, types):
        raise D90Error(f"{where} is {value!r}: expected {what}.")
    return value


def _is_a(value: Any, types: tuple[type, ...]) -> bool:
    """Whether the value is of one of the types; true and false are no numbers."""
    return isinstance(value, types) and (bool in types or not isinstance(value, bool))
