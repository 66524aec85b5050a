"""The command line: one file per subcommand, in `commands`."""

from __future__ import annotations

import io
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from time import sleep
from typing import Annotated

import typer

import d90
from d90.cli.commands import (
    bound,
    combine,
    curves,
    evaluate,
    generalization,
    generate,
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
from d90.cli.paths import check_paths
from d90.cli.terminal import Terminal
from d90.distributed.launcher import check_launch, destroy_process_group, rank, world_size
from d90.errors import D90Error, single_line
from d90.utils.redact import redact

BROKEN_PIPE, BAD_INPUT, INTERRUPTED = 1, 2, 130

SECONDS_TO_REPORT = 2.0
"""A launcher ends all processes with the first one: ranks above 0 wait for the error of rank 0."""

UsageError: type[Exception] = typer.BadParameter.__mro__[1]
"""typer raises the class of its own copy of click."""

app = typer.Typer(
    name="d90",
    help="How many parameters does it take to fine-tune a language model?",
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
    "Table and figures of the paper": {
        "table": table.table,
        "curves": curves.curves,
        "pretrain": pretrain.pretrain,
        "trajectory": trajectory.trajectory,
        "scaling": scaling.scaling,
        "generalization": generalization.generalization,
    },
    "Adapters": {
        "tune": tune.tune,
        "inspect": inspect.inspect,
        "evaluate": evaluate.evaluate,
        "predict": predict.predict,
        "generate": generate.generate,
        "merge": merge.merge,
        "similarity": similarity.similarity,
        "combine": combine.combine,
        "bound": bound.bound,
    },
}
"""Every command by name, in the panels of the help page."""

DISTRIBUTED = ("measure", "table", "curves", "trajectory", "scaling", "tune")
"""Commands that run under a launcher, with every trial distributed over its processes."""

for panel, commands in COMMANDS.items():
    for name, command in commands.items():
        app.command(name, rich_help_panel=panel)(check_paths(command))


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """How many parameters does it take to fine-tune a language model?"""
    if version:
        print(d90.__version__)
    elif context.invoked_subcommand is None:
        context.get_help()
    elif world_size() > 1 and context.invoked_subcommand not in DISTRIBUTED:
        raise D90Error(
            f"d90 {context.invoked_subcommand} runs in one process: start it without a launcher."
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit.

    Exit codes: 0; 1 when nobody reads the output any more; 2 for bad input, with one line on
    standard error; 130 after an interrupt. Under a launcher only rank 0 prints.
    """
    _open_streams()
    warnings.formatwarning = _one_line_warning
    try:
        check_launch()
        # typer returns the code of an early exit: 0 after --help, 130 after an interrupt.
        code = app(args=arguments, prog_name="d90", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = BROKEN_PIPE
    except OSError as error:  # A path or a device that no command has checked.
        where = "" if error.filename is None else f"'{error.filename}': "
        _print_error(f"{where}{error.strerror or error}.")
        code = BAD_INPUT
    except D90Error as error:
        _print_error(str(error))
        code = BAD_INPUT
    except UsageError as error:
        _print_error(_usage(error))
        code = BAD_INPUT
    except KeyboardInterrupt:
        code = INTERRUPTED
    destroy_process_group()
    if code == INTERRUPTED and rank() == 0:
        print("interrupted: rerun the command to resume.", file=sys.stderr)
    sys.exit(code)


def _open_streams() -> None:
    """Standard streams that can be written, whatever the terminal's encoding."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # It was closed when Python started.
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # Not every terminal encoding has ≤.


def _print_error(text: str) -> None:
    if rank() > 0:
        sleep(SECONDS_TO_REPORT)
        return
    console = Terminal(stderr=True, soft_wrap=True)
    console.print("error: ", style="bold red", end="")
    console.print(single_line(redact(text)))


def _usage(error: Exception) -> str:
    """The error of wrong options or arguments, and where to read about them."""
    context = getattr(error, "ctx", None)
    command = "d90" if context is None else context.command_path
    message = getattr(error, "format_message", error.__str__)()
    stop = "" if message.endswith((".", "?")) else "."
    return f"{message}{stop} See {command} --help."


def _one_line_warning(message: Warning | str, *_: object) -> str:
    return f"warning: {single_line(redact(str(message)))}\n"
