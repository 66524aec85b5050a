"""What the displays of long commands share: live on a terminal, plain lines elsewhere."""

from __future__ import annotations

from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console, RenderableType
from rich.live import Live

from d90.cli.output import print_line

if TYPE_CHECKING:
    from typing_extensions import Self


class LiveDisplay(AbstractContextManager["LiveDisplay"]):
    """A context in which something is shown live, if the console is a terminal.

    Args:
        console: where it is shown.
        quiet: print nothing at all.
    """

    def __init__(self, console: Console, *, quiet: bool) -> None:
        self._console, self._quiet = console, quiet
        self._live: Live | None = None

    def _show_live(self, renderable: RenderableType) -> None:
        """Show this from entering the context to leaving it; to be called before."""
        if self._console.is_terminal and not self._quiet:
            self._live = Live(renderable, console=self._console, transient=True)

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def _print(self, line: str) -> None:
        if not self._quiet:
            print_line(line, self._console)
