"""Option values from a TOML file, by option name; the command line takes precedence."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import typer

from d90.cli.parsing import names
from d90.errors import D90Error, unknown_name
from d90.utils.reading import parse_toml, read_text
from d90.utils.redact import redact

Kind = tuple[tuple[type, ...], str]
"""TOML types, and their name in an error."""

LISTS: dict[str, Kind] = {
    "dims": ((int, float), "numbers"),
    "learning_rates": ((int, float), "numbers"),
    "baseline_learning_rates": ((int, float), "numbers"),
    "seeds": ((int,), "integers"),
    "checkpoints": ((int,), "integers"),
    "text_columns": ((str,), "strings"),
    "methods": ((str,), "strings"),
}
"""Options that the command line takes as one string with commas, and the type of their items."""

TYPES: dict[type, Kind] = {
    int: ((int,), "an integer"),
    float: ((int, float), "a number"),
    bool: ((bool,), "true or false"),
    Path: ((str,), "a string"),
    str: ((str,), "a string"),
}
"""The TOML types that an option of each type accepts."""


def read_defaults(context: typer.Context, file: Path | None) -> Path | None:
    """Make the values in a TOML file the defaults of this command's options and arguments.

    Raises:
        D90Error: the file cannot be read or is not TOML; a key is not an option; a value has the
            wrong type.
    """
    if file is None or context.resilient_parsing:
        return file
    options = get_type_hints(context.command.callback)
    del options["config"], options["return"]
    defaults: dict[str, Any] = {}
    for key, value in parse_toml(read_text(file, "--config"), f"--config '{file}'").items():
        name = key.replace("-", "_")
        if name not in options:
            raise unknown_name(
                f"option in '{file}'", key, [choice.replace("_", "-") for choice in options]
            )
        defaults[name] = _value(f"'{file}': {key}", value, name, options[name])
    context.default_map = {**(context.default_map or {}), **defaults}
    return file


def _value(where: str, value: Any, name: str, annotation: Any) -> Any:
    """The value as the command line would give it."""
    is_repeated = get_origin(annotation) is list
    if is_repeated or name in LISTS:
        types, expected = ((str,), "strings") if is_repeated else LISTS[name]
        items = value if isinstance(value, list) else [value]
        # A string is written as on the command line, with commas.
        if not isinstance(value, str) and not all(_is_a(item, types) for item in items):
            raise D90Error(f"{where} is {redact(repr(value))}: expected a list of {expected}.")
        if is_repeated:
            return list(names(value)) if isinstance(value, str) else items
        return ",".join(map(str, items))
    kinds = {*get_args(annotation)} - {type(None)} or {annotation}
    types, expected = TYPES[kinds.pop()]
    if not _is_a(value, types):
        raise D90Error(f"{where} is {redact(repr(value))}: expected {expected}.")
    return value


def _is_a(value: Any, types: tuple[type, ...]) -> bool:
    """Whether the value has one of the types; true and false are not numbers."""
    return isinstance(value, types) and (bool in types or not isinstance(value, bool))
