"""The terminal: whatever is printed on it, no name or text of others can act on it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from d90.errors import printable


class Terminal(Console):
    """A console that shows text as it is: no markup, no emoji codes, no control characters.

    Everything that is printed passes `render`, so a table, a progress bar or a title that is made
    of a file's name needs no care of its own.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **settings)

    def render_str(self, text: str, **settings: Any) -> Text:
        """A string as it is laid out: made printable before its width is measured."""
        return super().render_str(printable(text), **settings)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """The segments of a renderable, their text printable."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else printable(text), style, control)
