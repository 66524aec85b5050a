"""The command line: one thin file a subcommand."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer
from rich.console import Console

from d90.cli import measure, report
from d90.errors import D90Error

BAD_INPUT, INTERRUPTED = 2, 130

app = typer.Typer(
    name="d90",
    help="How many numbers does it take to fine-tune a language model?",
    epilog="Start with: d90 measure minilm-l6 wordnet-supersense --protocol list "
    "--dims 10,100,1000 --output report",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command("measure")(measure.measure)
app.command("report")(report.report)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; bad input is one line on standard error and exit code 2."""
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        app(args=arguments, standalone_mode=True)
    except D90Error as error:
        console.print(f"[bold red]error:[/] {_escaped(str(error))}")
        sys.exit(BAD_INPUT)
    except KeyboardInterrupt:
        console.print("interrupted: the same command continues where this one stopped.")
        sys.exit(INTERRUPTED)


def _escaped(text: str) -> str:
    return " ".join(text.split()).replace("[", r"\[")
