"""The class of every command: help for narrow terminals, and options that take several words.

In a terminal that is too narrow for tables, these would cut the names of options.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
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


def spread(arguments: Sequence[str], several: Collection[str]) -> list[str]:
    """Give every word after an option that takes several its own name of the option.

    >>> spread(["a", "--tasks", "mrpc", "qqp", "--dry-run"], {"--tasks"})
    ['a', '--tasks', 'mrpc', '--tasks', 'qqp', '--dry-run']
    """
    spelled: list[str] = []
    option, count = "", 0
    for word in arguments:
        if word.startswith("-"):
            option, count = word if word in several else "", 0
            spelled.append(word)
        else:
            spelled += [option, word] if option and count else [word]
            count += 1
    return spelled


class Command(TyperCommand):
    """A command whose help suits its terminal, with words after `--tasks` up to the next option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        several = {
            name
            for option in self.params
            if getattr(option, "multiple", False)
            for name in option.opts
        }
        return super().parse_args(ctx, spread(args, several))

    def get_help(self, ctx: Any) -> str:
        ctx.formatter_class = Formatter
        return super().get_help(ctx)


class Group(TyperGroup):
    """A group of commands whose help suits its terminal."""

    def get_help(self, ctx: Any) -> str:
        ctx.formatter_class = Formatter
        return super().get_help(ctx)
