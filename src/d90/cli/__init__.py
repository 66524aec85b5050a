"""The command line: one thin file a subcommand."""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Callable, Sequence
from time import sleep
from typing import Annotated

import typer
from rich.console import Console

import d90
from d90.cli.commands import (
    bound,
    combine,
    curves,
    evaluate,
    generalization,
    inspect,
    measure,
    merge,
    predict,
    pretrain,
    report,
    scaling,
    similarity,
    table,
    trajectory,
    tune,
)
from d90.distributed.launcher import destroy_process_group, rank, world_size
from d90.errors import D90Error, single_line

BAD_INPUT, INTERRUPTED = 2, 130

SECONDS_TO_SAY = 2.0

UsageError: type[Exception] = typer.BadParameter.__mro__[1]
"""typer carries its own copy of click, so click's own class is not the one that it raises."""

app = typer.Typer(
    name="d90",
    help="How many numbers does it take to fine-tune a language model?",
    epilog="Start with: d90 measure minilm-l6 wordnet-supersense --dims 30,100,300,1000",
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
)
COMMANDS: dict[str, dict[str, Callable[..., None]]] = {
    "Measure": {
        "measure": measure.measure,
        "report": report.report,
    },
    "The paper's table and figures": {
        "table": table.table,
        "curves": curves.curves,
        "pretrain": pretrain.pretrain,
        "trajectory": trajectory.trajectory,
        "scaling": scaling.scaling,
        "generalization": generalization.generalization,
    },
    "Task files": {
        "tune": tune.tune,
        "inspect": inspect.inspect,
        "evaluate": evaluate.evaluate,
        "predict": predict.predict,
        "merge": merge.merge,
        "similarity": similarity.similarity,
        "combine": combine.combine,
        "bound": bound.bound,
    },
}
"""Every command by its name, in the panels of the help page."""

TOGETHER = ("measure", "table", "curves", "trajectory", "scaling", "tune")
"""Commands whose runs the processes of a launcher make together."""

for panel, commands in COMMANDS.items():
    for name, command in commands.items():
        app.command(name, rich_help_panel=panel)(command)


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """How many numbers does it take to fine-tune a language model?"""
    if version:
        print(d90.__version__)
    elif context.invoked_subcommand is None:
        context.get_help()
    elif world_size() > 1 and context.invoked_subcommand not in TOGETHER:
        raise D90Error(
            f"d90 {context.invoked_subcommand} runs in one process: start it without a launcher."
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit.

    Exit codes: 0; 2 for bad input, with one line on standard error; 130 after an interrupt. Of
    several processes of a launcher only the first one prints.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # A terminal that knows no Greek is no error.
    warnings.formatwarning = _one_line_warning
    try:
        # typer gives the code of an early exit back: 0 after --help, 130 after an interrupt.
        code = app(args=arguments, prog_name="d90", standalone_mode=False)
    except D90Error as error:
        _say_error(str(error))
        code = BAD_INPUT
    except UsageError as error:
        _say_error(_usage(error))
        code = BAD_INPUT
    except KeyboardInterrupt:
        code = INTERRUPTED
    destroy_process_group()
    if code == INTERRUPTED and rank() == 0:
        print("interrupted: the same command goes on from here.", file=sys.stderr)
    sys.exit(code)


def _say_error(text: str) -> None:
    if rank() > 0:
        # The first process says it, and has the time to: a launcher ends all when one ends.
        sleep(SECONDS_TO_SAY)
        return
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    console.print("[bold red]error:[/] ", end="")
    console.print(single_line(text), markup=False)


def _usage(error: Exception) -> str:
    """What is wrong with the options, and where to read about them."""
    context = getattr(error, "ctx", None)
    command = "d90" if context is None else context.command_path
    what = getattr(error, "format_message", error.__str__)()
    stop = "" if what.endswith((".", "?")) else "."
    return f"{what}{stop} See {command} --help."


def _one_line_warning(message: Warning | str, *_: object) -> str:
    return f"warning: {single_line(message)}\n"
