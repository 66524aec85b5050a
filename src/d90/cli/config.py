"""Options from a TOML file: the same names as on the command line, which wins."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import typer

from d90.errors import D90Error, unknown

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def from_file(context: typer.Context, file: Path | None) -> Path | None:
    """Make the file's values the defaults of this command's options.

    Raises:
        D90Error: a file that cannot be read, is no TOML, or names no option.
    """
    if file is None or context.resilient_parsing:
        return file
    names = {parameter.name for parameter in context.command.params} - {"config", None}
    values = {key.replace("-", "_"): value for key, value in _read(file).items()}
    for key in values:
        if key not in names:
            raise unknown(f"option in {file}", key, [name for name in names if name])
    context.default_map = {
        **(context.default_map or {}),
        **{key: _as_text(value) for key, value in values.items()},
    }
    return file


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise D90Error(f"--config: cannot read '{file}': {error}.") from error
    except tomllib.TOMLDecodeError as error:
        raise D90Error(f"--config: '{file}' is not TOML: {error}.") from error


def _as_text(value: Any) -> Any:
    """A TOML list is what the command line writes with commas."""
    return ",".join(map(str, value)) if isinstance(value, list) else value
