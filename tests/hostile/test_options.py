"""Every option and argument of every command, with hostile values: one line and exit code 2."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.hostile.commands import VALID, VALUES, Parameter, parameters
from tests.hostile.ground import Accepted, Ground, check_refused, run

from d90.cli import COMMANDS

HUGE = str(2**63)
ODD = ("\x1b[31mred", "[bold]")

HARMLESS: dict[str, tuple[str, ...]] = {
    "max_train_samples": (HUGE,),
    "max_eval_samples": (HUGE,),
    "max_documents": (),
    "seed": (HUGE,),
    "head_seed": (HUGE,),
    "checkpoint_every": (HUGE,),
    "eval_every": (HUGE,),
    "max_eval_blocks": (HUGE,),
    "store": ODD,  # strange names of files are names all the same
    "corpus": (*ODD, "a\udcffb"),  # or of data sets, which are sought later
    "texts": ("", "n" * 300, "~nosuchuser/x", *ODD, "9" * 5000),
    "prompts": VALUES["text"],
    "text_columns": VALUES["text"],  # read only where a file or a task is
}
"""Values that are accepted, by the name of the option."""

SAME_OPTIONS = ("curves", "scaling", "trajectory")
"""Commands whose options are those of `table`: one value of each is enough."""


def cases() -> list[tuple[Parameter, str]]:
    found = []
    for parameter in parameters():
        values = VALUES[parameter.kind]
        is_same = parameter.command in SAME_OPTIONS and parameter.flag
        found += [(parameter, value) for value in (values[:1] if is_same else values)]
    return found


def arguments(parameter: Parameter, value: str, ground: Ground) -> list[str]:
    names = ground.names()
    words = [word.format(**names) for word in VALID[parameter.command].split()]
    if parameter.flag:
        return [parameter.command, *words, f"{parameter.flag}={value}"]
    same = [p.name for p in parameters() if p.command == parameter.command and not p.flag]
    words[same.index(parameter.name)] = value
    return [parameter.command, *words]


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        pytest.param(p, v, id=f"{p.command} {p.flag or p.name} {ascii(v)[:20]}")
        for p, v in cases()
        if v not in HARMLESS.get(p.name, ())
    ],
)
def test_hostile_values(parameter: Parameter, value: str, ground: Ground, here: Path) -> None:
    check_refused(run(arguments(parameter, value, ground)))


@pytest.mark.parametrize("command", sorted(VALID))
def test_the_command_without_the_hostile_value_is_accepted(
    command: str, ground: Ground, here: Path
) -> None:
    """Else the cases above would be refused for another reason."""
    words = [word.format(**ground.names()) for word in VALID[command].split()]
    try:
        outcome = run([command, *words])
    except Accepted:
        return
    assert outcome.code == 0, outcome.err


def test_every_command_and_every_option_has_a_case() -> None:
    commands = {name for group in COMMANDS.values() for name in group}
    assert commands == set(VALID)
    tested = {
        (parameter.command, parameter.name)
        for parameter, value in cases()
        if value not in HARMLESS.get(parameter.name, ())
    }
    # Any text is one to classify or complete, or the name of a column.
    free = {"texts", "prompts", "text_columns"}
    assert {(p.command, p.name) for p in parameters() if p.name not in free} <= tested


def test_there_are_enough() -> None:
    assert len(cases()) > 1000
