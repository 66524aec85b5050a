"""A valid command line of every command, and hostile values of every kind of option."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args, get_type_hints

from typer.models import OptionInfo

from d90.cli import COMMANDS

TRAINING = "--max-length 16 --batch-size 8 --precision no"
SWEEP = f"{{model}} --tasks {{task}} --dims 10 {TRAINING} --store s.db --output out"

VALID = {
    "measure": f"{{model}} {{task}} --dims 10 {TRAINING} --store s.db --output out",
    "report": "{study} --output out",
    "table": f"{SWEEP} --methods did",
    "curves": SWEEP,
    "scaling": f"{SWEEP} --methods did",
    "trajectory": f"{{model}}/. {SWEEP} --methods did",
    "pretrain": "{corpus} -o out --size nano --vocab-size 300 --max-steps 4 --max-length 16",
    "generalization": "{study} --output out",
    "tune": f"{{model}} {{task}} -d 50 {TRAINING} -o out.st",
    "inspect": "{adapter}",
    "evaluate": "{adapter} {task} --base {model}",
    "predict": "{adapter} good --base {model} -o out.jsonl",
    "generate": "{generative} good --base {language_model} --max-new-tokens 2",
    "merge": "{adapter} --base {model} -o out",
    "similarity": "{adapter} {other}",
    "combine": "{adapter} {other} -o out.st",
    "bound": "{adapter} --task {task} --base {model}",
}
"""Arguments of each command that it accepts."""

HUGE = "9" * 5000

VALUES: dict[str, tuple[str, ...]] = {
    "integer": ("x", "", "1.5", "-1", HUGE, str(2**63), "1e3", "\x1b[31m1", "٣x"),
    "float": ("x", "", "nan", "inf", "-inf", "-1", HUGE + "x", "1e999"),
    "path": ("", "n" * 300, "~nosuchuser/x", "n/" * 2500),
    "text": ("", "n" * 300, "~nosuchuser/x", "\x1b[31mred", "[bold]", "a\udcffb", HUGE),
    "boolean": ("x",),
}
"""Hostile values by the type of an option."""

KINDS = {int: "integer", float: "float", bool: "boolean", Path: "path"}


@dataclass(frozen=True)
class Parameter:
    """An option or argument of a command.

    Attributes:
        command: its name.
        name: of the parameter, in the signature.
        flag: how it is written; empty for an argument.
        kind: a key of `VALUES`.
    """

    command: str
    name: str
    flag: str
    kind: str


def parameters() -> Iterator[Parameter]:
    """Every option and argument of every command."""
    commands = {name: command for group in COMMANDS.values() for name, command in group.items()}
    for command, function in commands.items():
        hints = get_type_hints(function, include_extras=True)
        for name in inspect.signature(function).parameters:
            annotation, info = get_args(hints[name])
            flags = [flag for flag in info.param_decls or () if flag.startswith("--")]
            is_option = isinstance(info, OptionInfo)
            flag = (*flags, "--" + name.replace("_", "-"))[0] if is_option else ""
            kinds = {annotation, *get_args(annotation)}
            kind = next((kind for type_, kind in KINDS.items() if type_ in kinds), "text")
            yield Parameter(command, name, flag, kind)
