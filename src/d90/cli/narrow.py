"""Help for terminals that are too narrow for tables, which would cut the names of options."""

from __future__ import annotations

from collections.abc import Sequence
from shutil import get_terminal_size
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

TABLES = 80
"""Columns from which on help comes in tables."""


def is_narrow() -> bool:
    """Whether the terminal has no room for tables."""
    return get_terminal_size().columns < TABLES


# typer has its own copy of click in some versions and not in others: the class by way of its user.
_Formatter: Any = typer.Context.formatter_class


class Formatter(_Formatter):
    """Plain text as wide as the terminal, what an option does below its name."""

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__(width=get_terminal_size().columns - 1)

    def write_dl(self, rows: Sequence[tuple[str, str]], *_: Any, **__: Any) -> None:
        super().write_dl(rows, col_max=6, col_spacing=2)


class Command(TyperCommand):
    """A command whose help suits its terminal."""

    def get_help(self, ctx: Any) -> str:
        ctx.formatter_class = Formatter
        return super().get_help(ctx)


class Group(TyperGroup):
    """A group of commands whose help suits its terminal."""

    def get_help(self, ctx: Any) -> str:
        ctx.formatter_class = Formatter
        return super().get_help(ctx)
